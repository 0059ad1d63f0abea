"""Whether a scenario lies within a domain: whether all that it draws could also be drawn from the domain."""

from typing import Any, Final

from distila.training.sim.distribution import Distribution
from distila.training.sim.scenario import GEOMETRY, GEOMETRY_SNR_DB, SAME_TABLE, ChannelConfig, Scenario

_SECTIONS: Final = ("interference", "link", "cqi", "e2", "traffic")
_DRAWN: Final = {"ir", "chase", "effective_sinr", "mean_sinr", "drawn"}
"""What `LinkConfig.combining` and `CqiConfig.kind` may be where the domain draws them."""


def outside(scenario: Scenario, domain: Scenario) -> list[str]:
    """Names of the scenario's settings whose range exceeds that of ``domain``; empty: it lies within.

    A mixture includes what one of its kinds of node includes as a whole: the names are those of the nearest kind.
    """
    if scenario.nodes:
        found = [(name, outside(kind, domain)) for name, kind in scenario.kinds.items()]
        return [f"nodes.{name}.{setting}" for name, settings in found for setting in settings]
    return min((_outside(scenario, kind) for kind in domain.kinds.values()), key=len)


def _outside(scenario: Scenario, domain: Scenario) -> list[str]:
    found = [
        f"channels.{index}.{name}"
        for index, channel in enumerate(scenario.channels)
        for name in _not_in(channel, domain.channels)
    ]
    for section in _SECTIONS:
        ours, theirs = getattr(scenario, section), getattr(domain, section)
        for name in type(ours).model_fields:
            inside = (
                _cqi_table_within(scenario, domain)
                if (section, name) == ("cqi", "table")
                else _within(getattr(ours, name), getattr(theirs, name))
            )
            if not inside:
                found.append(f"{section}.{name}")
    return found if _within(scenario.snr_db, domain.snr_db) else [*found, "snr_db"]


def _cqi_table_within(scenario: Scenario, domain: Scenario) -> bool:
    ours, mcs = scenario.cqi.table, scenario.link.mcs_table
    if ours == SAME_TABLE:
        return domain.cqi.table == SAME_TABLE or mcs.within(domain.cqi.table)
    if domain.cqi.table == SAME_TABLE:
        return len(set(ours.values) | set(mcs.values)) == 1
    return ours.within(domain.cqi.table)


def _not_in(channel: ChannelConfig, domain: tuple[ChannelConfig, ...]) -> list[str]:
    """The settings by which ``channel`` differs from the nearest of ``domain``."""
    fields = ChannelConfig.model_fields
    gaps = [[n for n in fields if not _within(getattr(channel, n), getattr(other, n))] for other in domain]
    return min(gaps, key=len)


def _within(ours: Any, theirs: Any) -> bool:
    if ours == GEOMETRY and isinstance(theirs, Distribution) and theirs != GEOMETRY:
        return theirs.bounds[0] <= GEOMETRY_SNR_DB[0] and GEOMETRY_SNR_DB[1] <= theirs.bounds[1]
    if theirs == "drawn":
        return ours in _DRAWN
    if ours is None:  # a setting that does not vary in time, or follows from others
        return True
    if isinstance(ours, Distribution) and isinstance(theirs, Distribution):
        return ours.within(theirs)
    return bool(ours == theirs)
