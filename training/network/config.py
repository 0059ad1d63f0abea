"""Settings that a network is built from."""

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from distila.xapp.nr.mcs import NUM_MCS


class NetworkConfig(BaseModel):
    """Settings that a network is built from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory: Literal["filters", "gru"] = Field(
        default="filters", description="fixed running estimates (`PolicyNetwork`) or a learnt GRU (`RecurrentNetwork`)"
    )
    projection: int = Field(default=16, ge=1, le=256, description="width of the layer between a report and the GRU")
    gru_width: int = Field(default=24, ge=1, le=256, description="width of the GRU, which is its memory")
    hidden: tuple[int, ...] = Field(default=(64, 64), description="widths of the hidden layers")
    rates_db: tuple[float, ...] = Field(
        default=(0.2, 0.8), min_length=1, max_length=16, description="step sizes of the SINR estimates [dB], ascending"
    )
    cqi_rates_db: tuple[float, ...] = Field(
        default=(0.05, 0.2, 0.8),
        min_length=1,
        max_length=16,
        description="step sizes of the estimates of the SINR above that of CQI [dB], ascending",
    )
    retx_rates_db: tuple[float, ...] = Field(
        default=(0.1, 0.4),
        max_length=16,
        description="step sizes of the SINR estimates from retransmissions [dB], ascending",
    )
    retx_cqi_rates_db: tuple[float, ...] = Field(
        default=(0.1, 0.4),
        max_length=16,
        description="step sizes of the estimates from retransmissions of the SINR above that of CQI [dB], ascending",
    )
    variability_rates: tuple[float, ...] = Field(
        default=(0.1,),
        max_length=16,
        validation_alias=AliasChoices("variability_rates", "unrest_rates"),
        description="step sizes of the estimates of variability, ascending; may be empty",
    )
    mcs_table: Literal[1, 2, 3] = 1
    cqi_table: Literal[1, 2, 3] = 1
    actions: Literal["mcs", "mcs_offset", "both"] = "mcs"
    max_offset: int = Field(default=4, ge=1, le=NUM_MCS - 1, description="largest offset, either way")
    head: Literal["logit", "value"] = Field(
        default="logit", description="a score for each action, or the expected return of each"
    )
    failure_price: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="price of a failed first transmission, in blocks; head `value`",
    )
    residual_price: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="price of a block lost after its last transmission, in blocks; head `value`",
    )

    @field_validator("hidden")
    @classmethod
    def _wide_enough(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in value):
            raise ValueError(f"widths {value} must be at least 1")
        return value

    @field_validator("rates_db", "cqi_rates_db", "retx_rates_db", "retx_cqi_rates_db", "variability_rates")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < low < high for low, high in pairwise((*value, np.inf))):
            raise ValueError(f"step sizes {value} must be positive and ascend")
        return value
