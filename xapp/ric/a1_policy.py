"""The A1 policy type for link adaptation. schemas/a1_policy_type.json is written from here.

============== ===============================================================================================
field          effect, from the next indication on
============== ===============================================================================================
cells          the cells that the policy applies to; empty: all
enabled        false: the DU decides for every UE of these cells
min_mcs,       absolute MCS are clamped to them; an MCS offset knows no absolute MCS and is not
max_mcs
target_bler    a ceiling. Policies choose MCS for goodput and take no target; a UE whose first transmissions fail
               more often than this, over so many that it is no chance, and for whom the DU would use a lower
               MCS, is left to the DU for a while (the guard's breaker)
policy         which bundle decides; for all cells alike, so not together with ``cells``
============== ===============================================================================================
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.guard import GuardConfig

_FAILURES_NEEDED: Final = 10.0
_MEMORY: Final = 2.5


class A1Policy(BaseModel):
    """One policy instance. Fields that it leaves out keep their configured values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cells: list[str] = Field(
        default_factory=list, description="ids of the cells that the policy applies to; empty: all cells"
    )
    enabled: bool | None = Field(default=None, description="false: the DU decides for every UE")
    min_mcs: int | None = Field(default=None, ge=0, le=NUM_MCS - 1, description="lowest absolute MCS that is sent")
    max_mcs: int | None = Field(default=None, ge=0, le=NUM_MCS - 1, description="highest absolute MCS that is sent")
    target_bler: float | None = Field(
        default=None, ge=0.001, lt=1, description="first-transmission BLER above which a UE is left to the DU"
    )
    policy: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the policy bundle that decides"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "A1Policy":
        if self.min_mcs is not None and self.max_mcs is not None and self.min_mcs > self.max_mcs:
            raise ValueError(f"min_mcs = {self.min_mcs} exceeds max_mcs = {self.max_mcs}")
        if self.policy is not None and self.cells:
            raise ValueError("one policy bundle decides for all cells: leave out cells or policy")
        return self

    def applied_to(self, config: GuardConfig) -> GuardConfig:
        """The guard's configuration under this policy.

        Raises:
            ValueError: the two contradict each other, such as a ``min_mcs`` above the configured ``max_mcs``.
        """
        given: dict[str, object] = {
            name: value for name in ("enabled", "min_mcs", "max_mcs") if (value := getattr(self, name)) is not None
        }
        if self.target_bler is not None:
            # The rarer failures are, the more transmissions it takes to distinguish a high rate from chance.
            needed = max(config.breaker_min_tx, _FAILURES_NEEDED / self.target_bler)
            given.update(
                breaker_failure_rate=self.target_bler,
                breaker_retx_failure_rate=0,
                breaker_min_tx=needed,
                breaker_window_tx=max(config.breaker_window_tx, _MEMORY * needed),
            )
        return GuardConfig.model_validate({**config.model_dump(), **given})


def limits_under(config: GuardConfig, policies: Iterable[A1Policy]) -> tuple[GuardConfig, Mapping[str, GuardConfig]]:
    """The guard's configuration under policies, in the order of arrival: for all cells, and for cells with their own.

    If two policies differ the later one wins; a policy for certain cells wins there over one for all cells.

    Raises:
        ValueError: they contradict each other.
    """
    policies = list(policies)
    for policy in policies:
        if not policy.cells:
            config = policy.applied_to(config)
    cells: dict[str, GuardConfig] = {}
    for policy in policies:
        for cell_id in policy.cells:
            cells[cell_id] = policy.applied_to(cells.get(cell_id, config))
    return config, cells


def policy_type(ident: int) -> dict[str, object]:
    """The policy type as the A1 mediator expects it: ``PUT /A1-P/v2/policytypes/{ident}``."""
    schema = A1Policy.model_json_schema()
    return {
        "name": "distila_link_adaptation",
        "description": "Which MCS the link adaptation xApp may choose, where, and by which policy bundle",
        "policy_type_id": ident,
        "create_schema": {"$schema": "http://json-schema.org/draft-07/schema#", **schema},
    }


if __name__ == "__main__":
    from distila.xapp.platform_config import RicConfig

    print(json.dumps(policy_type(RicConfig().a1_policy_type or 0), indent=2))
