"""Settings of EdgeRIC, apart from the transport so that the configuration can be read where ZeroMQ is not installed."""

from pydantic import BaseModel, ConfigDict, Field


class EdgeRicConfig(BaseModel):
    """How to talk to an srsRAN gNB with EdgeRIC, and what its telemetry leaves open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: str = Field(default="ipc:///tmp/metrics_data", description="where the gNB publishes its telemetry")
    control: str = Field(default="ipc:///tmp/control_mcs", description="where the gNB looks for MCS overrides")
    ran_index: int = Field(default=0, ge=0, le=2**32 - 1, description="which gNB the overrides are for")
    cell_id: str = Field(default="edgeric", min_length=1, description="name of the gNB's cell in logs and metrics")
    mcs_table: int = Field(default=1, ge=1, le=3, description="TS 38.214 table that the gNB is configured with")
    cqi_table: int = Field(default=1, ge=1, le=3, description="TS 38.214 table of the CQI")
    feedback_delay_ttis: int = Field(
        default=4, ge=1, le=64, description="from a transmission to its HARQ feedback in the telemetry"
    )
    native_max_age_ttis: int = Field(
        default=200, ge=4, description="how long the gNB's own choice, seen while nothing overrides it, is believed"
    )
    uplink_snr_as_sinr: bool = Field(
        default=False, description="take the uplink SNR, all that is measured, for the downlink's effective SINR"
    )
    silent_after_s: float = Field(default=5.0, gt=0, description="without telemetry for so long the gNB is gone")
