"""Settings of EdgeRIC, apart from the transport so that the configuration can be read where ZeroMQ is not installed."""

from pydantic import BaseModel, ConfigDict, Field


class EdgeRicConfig(BaseModel):
    """The connection to an srsRAN gNB with EdgeRIC, and facts that its telemetry does not contain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: str = Field(
        default="ipc:///tmp/metrics_data", description="ZeroMQ address at which the gNB publishes its telemetry"
    )
    control: str = Field(
        default="ipc:///tmp/control_mcs", description="ZeroMQ address at which the gNB subscribes to MCS overrides"
    )
    ran_index: int = Field(default=0, ge=0, le=2**32 - 1, description="index of the gNB that the overrides are for")
    cell_id: str = Field(default="edgeric", min_length=1, description="name of the gNB's cell in logs and metrics")
    mcs_table: int = Field(default=1, ge=1, le=3, description="MCS table of TS 38.214 that the gNB is configured with")
    cqi_table: int = Field(default=1, ge=1, le=3, description="CQI table of TS 38.214 that the gNB is configured with")
    feedback_delay_ttis: int = Field(
        default=4, ge=1, le=64, description="TTIs from a transmission to its HARQ feedback in the telemetry"
    )
    native_max_age_ttis: int = Field(
        default=200,
        ge=4,
        description="TTIs for which the gNB's own MCS, seen while no override is in force, counts as known",
    )
    uplink_snr_as_sinr: bool = Field(
        default=False, description="use the uplink SNR, the only SNR that is measured, as the downlink's effective SINR"
    )
    silent_after_s: float = Field(
        default=5.0, gt=0, description="seconds without telemetry after which the gNB counts as disconnected"
    )
