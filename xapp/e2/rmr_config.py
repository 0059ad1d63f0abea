"""Settings of RMR, apart from the transport so that the configuration can be read where librmr is not installed."""

from pydantic import BaseModel, ConfigDict, Field


class RmrConfig(BaseModel):
    """The RMR endpoint. Routes come from the environment, as librmr wants it (RMR_SEED_RT, RMR_RTG_SVC, RMR_SRC_ID)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(default=4560, ge=1, le=65535, description="data port (rmrdata)")
    acknowledge: bool = Field(default=True, description="ask the node to acknowledge every control message")
    ack_timeout_s: float = Field(
        default=1.0, gt=0, description="a control message without acknowledgement for longer is counted as lost"
    )
