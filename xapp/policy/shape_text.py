"""The findings of shape tests in words, for terminal and model card."""

from typing import Final, NamedTuple

from distila.xapp.policy.shape_report import (
    MARGIN_PCT,
    Change,
    CqiChoices,
    CqiDrop,
    CqiOrder,
    NackOrder,
    ShapeReport,
    UnknownColumns,
)

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_NOT_RUN: Final = "not run"


class Finding(NamedTuple):
    """One test: what it asks, its result, and what was found."""

    test: str
    result: str
    found: str


def findings(report: ShapeReport, not_run: str = "") -> list[Finding]:
    """The findings of all tests.

    Args:
        report: the shape.
        not_run: why the test of unknown columns was not run, where it was not.
    """
    unknown = report.unknown_columns
    drop = report.cqi_drop.drop_cqi
    return [
        Finding(
            "a fresh, higher CQI never lowers the MCS", _result(report.cqi_order.passed), _cqi_order(report.cqi_order)
        ),
        Finding("more NACKs never raise the MCS", _result(report.nack_order.passed), _nack_order(report.nack_order)),
        Finding(
            f"a CQI lower by {drop} is answered at once", _result(report.cqi_drop.passed), _cqi_drop(report.cqi_drop)
        ),
        Finding(
            f"with columns unknown, at most {MARGIN_PCT:g} % below OLLA",
            _NOT_RUN if unknown is None else _result(unknown.passed),
            not_run if unknown is None else _unknown_columns(unknown),
        ),
    ]


def choices_table(choices: CqiChoices) -> tuple[str, list[str], list[list[str]]]:
    """The choice over CQI as a table: title, columns, rows."""
    latest = "no CQI yet" if choices.latest_cqi is None else f"latest CQI {choices.latest_cqi}"
    title = (
        f"MCS over a fresh CQI, all else equal ({choices.recording}, MCS table {choices.mcs_table}, {latest},"
        f" MCS {choices.native_mcs} of the DU)"
    )
    rows = [[name, *map(str, mcs)] for name, mcs in (("policy", choices.mcs), ("OLLA", choices.olla_mcs))]
    return title, ["CQI", *map(str, choices.cqi)], rows


def sparkline(values: tuple[int, ...]) -> str:
    """A line of block characters, from 0 at the bottom to the highest MCS of all tables at the top."""
    return "".join(_LEVELS[min(value * len(_LEVELS) // 29, len(_LEVELS) - 1)] for value in values)


def unknown_table(unknown: UnknownColumns) -> tuple[str, list[str], list[list[str]]]:
    """Goodput with columns unknown as a table: title, columns, rows."""
    cases = (*unknown.all_known, *unknown.cases)
    nodes = list(dict.fromkeys(case.node for case in cases))
    gains = {(case.unknown, case.node): case.gain_vs_olla_pct for case in cases}
    rows = [
        [name or "none", *(f"{gains[name, node]:+.1f}" for node in nodes)]
        for name in dict.fromkeys(case.unknown for case in cases)
    ]
    rows[1:1] = [
        ["none: first-tx BLER", *(f"{case.first_tx_bler:.2f}" for case in unknown.all_known)],
        ["none: the same of OLLA", *(f"{case.olla_first_tx_bler:.2f}" for case in unknown.all_known)],
    ]
    title = "goodput against OLLA under the same conditions [%], and first-transmission BLER, by kind of node"
    return title, ["unknown", *(node.replace("_", "\n") for node in nodes)], rows


def _result(passed: bool) -> str:
    return "passed" if passed else "FAILED"


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"


def _change(change: Change) -> str:
    return (
        f"{change.change} moves the MCS from {change.from_mcs} to {change.to_mcs}"
        f" ({change.recording}, MCS table {change.mcs_table})"
    )


def _cqi_order(order: CqiOrder) -> str:
    if not order.reads_cqi:
        return "the policy does not read CQI"
    text = f"lowered in {_share(order.falling_share)} of {order.cases} cases (pairs of CQI in {order.states} states)"
    return text if order.worst is None else f"{text}; worst: {_change(order.worst)}"


def _nack_order(order: NackOrder) -> str:
    parts = (
        ("by more NACKs", order.more_nacks),
        ("by a NACK for an ACK", order.nack_for_ack),
        ("by a retransmission's NACK for an ACK", order.retx_nack_for_ack),
    )
    text = "raised " + ", ".join(f"{name} in {_share(case.rising_share)} of {case.cases} cases" for name, case in parts)
    worst = max(
        (case.worst for _, case in parts if case.worst is not None),
        key=lambda change: change.to_mcs - change.from_mcs,
        default=None,
    )
    return text if worst is None else f"{text}; worst: {_change(worst)}"


def _cqi_drop(drop: CqiDrop) -> str:
    if drop.answered_share is None:
        return "the policy's choice cannot fall in any state in which OLLA's does"
    return (
        f"lower in {_share(drop.answered_share)} of {drop.cases} cases (needed: {_share(drop.min_answered_share)}),"
        f" on average by {drop.fall_mcs:.1f} MCS, OLLA by {drop.olla_fall_mcs:.1f}"
        f" (needed: {_share(drop.min_fall_of_olla)} of it)"
    )


def _unknown_columns(unknown: UnknownColumns) -> str:
    worst = unknown.worst
    if worst is None:
        return "every report has all columns that the policy reads"
    known = {case.node: case.gain_vs_olla_pct for case in unknown.all_known}[worst.node]
    return (
        f"worst: {worst.gain_vs_olla_pct:+.1f} % of goodput with {worst.unknown} unknown at node {worst.node!r}, where"
        f" it is {known:+.1f} % with all columns known"
    )
