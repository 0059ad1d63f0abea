"""Settings of RMR, apart from the transport so that the configuration can be read where librmr is not installed."""

from pydantic import BaseModel, ConfigDict, Field


class RmrConfig(BaseModel):
    """The RMR endpoint. librmr reads its routes from the environment (RMR_SEED_RT, RMR_RTG_SVC, RMR_SRC_ID)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(default=4560, ge=1, le=65535, description="RMR data port to listen on (rmrdata)")
    acknowledge: bool = Field(default=True, description="ask the E2 node to acknowledge every control message")
    ack_timeout_s: float = Field(
        default=1.0, gt=0, description="seconds without acknowledgement after which a control message counts as lost"
    )
