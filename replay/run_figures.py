"""The figures of both runs of a closed-loop replay as text, and how far they differ; for the terminal and the page."""

from dataclasses import dataclass

from distila.replay.page.number_text import number, percent, points, signed
from distila.replay.summary import RunFigures


@dataclass(frozen=True)
class FigureRow:
    """One figure of both runs."""

    label: str
    unit: str
    """of a bare number, "[ms]"; empty where the texts have it"""
    policy: str
    against: str
    difference: str


def figure_rows(policy: RunFigures, against: RunFigures) -> list[FigureRow]:
    """All figures, the most important first; "difference" is the policy's less the other's, or relative to it."""
    ours, theirs = policy, against
    return [
        FigureRow(
            "goodput per UE",
            "[Mbit/s]",
            number(ours.goodput_mbps, 2),
            number(theirs.goodput_mbps, 2),
            _relative(ours.goodput_mbps, theirs.goodput_mbps),
        ),
        _shares("first-transmission BLER", ours.first_tx_bler, theirs.first_tx_bler, 2),
        _numbers("transmissions per block", "", ours.transmissions_per_block, theirs.transmissions_per_block, 3),
        _shares("grants for retransmissions", ours.retransmission_share, theirs.retransmission_share, 2),
        _shares("residual BLER", ours.residual_bler, theirs.residual_bler, 4),
        *(
            _numbers(
                f"block delay, {name}",
                "[ms]",
                getattr(ours.block_delay_ms, percentile),
                getattr(theirs.block_delay_ms, percentile),
                2,
            )
            for percentile, name in (("p50", "median"), ("p95", "95th percentile"), ("p99", "99th percentile"))
        ),
        _shares("slots without a free HARQ process", ours.stalled_slot_share, theirs.stalled_slot_share, 2),
        _numbers("mean MCS of first transmissions", "", ours.mean_mcs, theirs.mean_mcs, 2),
        FigureRow(
            "first transmissions",
            "",
            number(ours.first_transmissions),
            number(theirs.first_transmissions),
            _relative(ours.first_transmissions, theirs.first_transmissions),
        ),
    ]


def _numbers(label: str, unit: str, ours: float | None, theirs: float | None, digits: int) -> FigureRow:
    difference = signed(_difference(ours, theirs), digits)
    return FigureRow(label, unit, number(ours, digits), number(theirs, digits), difference)


def _shares(label: str, ours: float | None, theirs: float | None, digits: int) -> FigureRow:
    difference = points(_difference(ours, theirs), digits)
    return FigureRow(label, "", percent(ours, digits), percent(theirs, digits), difference)


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _relative(ours: float | None, theirs: float | None) -> str:
    return signed(100 * (ours / theirs - 1) if ours is not None and theirs else None, 2, "%")
