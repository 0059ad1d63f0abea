"""The benchmark section of a bundle's manifest: how a policy did against OLLA, run by run and family by family.

The benchmark itself is `distila.training.benchmark`; this is its summary, which ships with the policy.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from distila.xapp.result_file import Estimate, ResultModel

OWN_TIMING: Final = "own_e2_timing"
"""Name of the run in which every family has its own E2 period and delay."""


class FamilyFigures(ResultModel):
    """Figures of the policy in one scenario family."""

    gain_vs_olla_pct: Estimate = Field(description="gain in mean goodput over tuned OLLA in the DU [%]")
    first_tx_bler: float | None = Field(description="NACKs over ACKs and NACKs of first transmissions, without DTX")
    residual_bler: float | None = Field(description="blocks lost after their last transmission, over all blocks")
    equal_bler_gain_pct: Estimate | None = Field(
        default=None,
        description="gain in mean goodput over OLLA at the BLER that the policy reaches [%]; null: not measured",
    )
    bought_with_bler: bool | None = Field(
        default=None,
        description="whether that is a gain at a higher BLER than OLLA's highest target; null: not measured",
    )


class BenchmarkRun(ResultModel):
    """One run of the benchmark, summed up for the policy that ships."""

    links: int = Field(ge=1, description="links per family and seed")
    duration_ms: float = Field(gt=0, description="simulated time per link and seed [ms], warm-up included")
    seeds: tuple[int, ...] = Field(description="seeds of the split")
    split: str = Field(description="split that the random numbers and channels came from: test or validation")
    e2_period_ms: float | None = Field(default=None, description="E2 period of all families [ms]; null: their own")
    e2_delay_ms: float | None = Field(
        default=None, description="delay from E2 report to effect in all families [ms]; null: their own, or unknown"
    )
    averages: dict[str, Estimate] = Field(
        default_factory=dict, description="mean gain over the families of each group [%], by name of the group"
    )
    families: dict[str, FamilyFigures] = Field(description="figures by name of the family")


def is_run(entry: object) -> bool:
    """Whether an entry of a manifest's benchmark section means to be a `BenchmarkRun`."""
    return isinstance(entry, BenchmarkRun) or (isinstance(entry, dict) and "families" in entry)


def run_name(period_ms: float | None) -> str:
    """Name of a run by its E2 period [ms], such as ``e2_period_10_ms``; None: each family's own."""
    return OWN_TIMING if period_ms is None else f"e2_period_{period_ms:g}_ms"


def timing_title(period_ms: float | None, delay_ms: float | None) -> str:
    """The E2 timing of a run in words; None: each family's own."""
    if period_ms is None:
        return "each family's own E2 timing"
    return f"E2 period {period_ms:g} ms" + ("" if delay_ms is None else f", delay {delay_ms:g} ms")


def group_title(group: str) -> str:
    """A group of families in words: ``seen_real_time`` is "seen families, real-time E2"."""
    if group == "five":
        return "the five families"
    seen, _, pace = group.partition("_")
    return f"{seen} families, {'E2 period varies' if pace == 'mixed' else pace.replace('_', '-') + ' E2'}"


def interval_text(estimate: Estimate, digits: int = 1) -> str:
    """``+1.2 (+0.8 to +1.6)``; the mean alone where there is no interval, a dash where there is no mean."""
    if estimate.mean is None:
        return "-"
    low, high = estimate.ci95
    if low is None or high is None:
        return f"{estimate.mean:+.{digits}f}"
    return f"{estimate.mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


_OLD_PERIOD: Final = re.compile(r"E2 period ([0-9.]+) ms")
_OLD_FIGURES: Final = {"gain [%]": "gain_vs_olla_pct", "BLER": "first_tx_bler", "given up": "residual_bler"}
_OLD_AVERAGE: Final = "mean gain [%], "


def _is_old(families: Mapping[str, object]) -> bool:
    return any(isinstance(figures, dict) and figures.keys() & _OLD_FIGURES.keys() for figures in families.values())


def _without_display_names(section: Any) -> Any:
    """The section as it is now, from one of distila 0.1, whose keys were display texts such as ``gain [%]``."""
    if not isinstance(section, dict):
        return section
    runs = {}
    for name, run in section.items():
        families = run.get("families") if isinstance(run, dict) else None
        if not isinstance(families, dict) or not _is_old(families):
            runs[name] = run
            continue
        period = _OLD_PERIOD.fullmatch(name)
        period_ms = float(period[1]) if period else None
        averages = {
            key.removeprefix(_OLD_AVERAGE).replace(" ", "_").replace("-", "_"): value
            for key, value in run.items()
            if key.startswith(_OLD_AVERAGE)
        }
        rest = {key: value for key, value in run.items() if not key.startswith(_OLD_AVERAGE) and key != "families"}
        runs[run_name(period_ms)] = {
            **rest,
            "e2_period_ms": period_ms,
            "averages": averages,
            "families": {
                family: {_OLD_FIGURES.get(key, key): value for key, value in figures.items()}
                for family, figures in families.items()
            },
        }
    return runs


PolicyBenchmark = Annotated[dict[str, BenchmarkRun], BeforeValidator(_without_display_names)]
"""Runs by name, see `run_name`; empty: the policy has not been through the benchmark."""
