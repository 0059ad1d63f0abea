"""The results of shape tests (`distila.xapp.policy.shape`), as files and programs get them."""

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from distila.xapp.result_file import ResultModel

MARGIN_PCT: Final = 5.0
"""Largest shortfall of goodput against OLLA with which `UnknownColumns` is passed [%]."""


class Change(ResultModel):
    """One comparison: the choice before and after one thing in the report was changed."""

    recording: str = Field(description="the episode whose reports led to the state: kind of node, and who decided")
    mcs_table: int = Field(description="MCS table of the UE (TS 38.214)")
    change: str = Field(description="what was changed")
    from_mcs: int = Field(description="MCS chosen without the change")
    to_mcs: int = Field(description="MCS chosen with the change")


class CqiChoices(ResultModel):
    """The choice over a fresh CQI in one state, all else equal."""

    recording: str = Field(description="the episode whose reports led to the state: kind of node, and who decided")
    mcs_table: int = Field(description="MCS table of the UE (TS 38.214)")
    latest_cqi: int | None = Field(description="CQI of the recorded report; null: none")
    native_mcs: int = Field(description="MCS that the DU would use, held")
    cqi: tuple[int, ...] = Field(description="CQI of the changed report")
    mcs: tuple[int, ...] = Field(description="MCS that the policy chooses, one for each CQI")
    olla_mcs: tuple[int, ...] = Field(description="MCS that OLLA chooses after the same reports")


class CqiOrder(ResultModel):
    """Whether a fresh, higher CQI never lowers the choice."""

    passed: bool
    reads_cqi: bool = Field(description="whether the policy reads CQI at all")
    states: int = Field(description="states that were looked at")
    cases: int = Field(description="pairs of a state and of two different CQI, 0 to 15")
    falling: int = Field(description="cases in which the higher CQI has the lower MCS")
    falling_share: float = Field(description="share of such cases")
    falling_share_by_recording: dict[str, float] = Field(description="share of such cases by episode")
    worst: Change | None = Field(description="the largest fall; null: none")
    typical: CqiChoices = Field(description="the choice over CQI in one state")


class NackCases(ResultModel):
    """Comparisons of one kind of change in HARQ feedback."""

    cases: int
    rising: int = Field(description="cases in which the change raises the MCS")
    rising_share: float = Field(description="share of such cases")
    worst: Change | None = Field(description="the largest rise; null: none")


class NackOrder(ResultModel):
    """Whether more NACKs never raise the choice."""

    passed: bool
    more_nacks: NackCases = Field(description="one to three NACKs of first transmissions added")
    nack_for_ack: NackCases = Field(description="a first transmission with NACK in place of one with ACK")
    retx_nack_for_ack: NackCases = Field(description="a retransmission with NACK in place of one with ACK")


class CqiDrop(ResultModel):
    """Whether the answer to a drop of CQI comes in the next decision."""

    passed: bool
    drop_cqi: int = Field(description="steps by which the fresh CQI is lower")
    cases: int = Field(description="states in which OLLA's choice falls at once, and the policy's can fall")
    answered_share: float | None = Field(description="share of them in which the policy's choice falls at once")
    min_answered_share: float = Field(description="lowest share with which the test is passed")
    fall_mcs: float | None = Field(description="mean fall of the policy's choice at once, over these cases")
    olla_fall_mcs: float | None = Field(description="the same of OLLA")
    min_fall_of_olla: float = Field(description="lowest ratio of the two with which the test is passed")


class UnknownCase(ResultModel):
    """Goodput in episodes at one kind of node with some columns unknown."""

    node: str = Field(description="kind of node")
    unknown: str = Field(description="columns that are unknown; empty: none")
    gain_vs_olla_pct: float = Field(description="goodput against OLLA under the same conditions [%]")
    first_tx_bler: float = Field(description="first-transmission BLER reached")
    olla_first_tx_bler: float = Field(description="OLLA's first-transmission BLER")
    overridden_share: float = Field(description="share of the policy's decisions that override the DU's own choice")


class UnknownColumns(ResultModel):
    """Whether unknown columns never make the policy worse than OLLA by more than a margin."""

    passed: bool
    margin_pct: float = Field(description="largest shortfall of goodput against OLLA with which it is passed [%]")
    all_known: tuple[UnknownCase, ...] = Field(description="with every column that the node reports, to compare with")
    cases: tuple[UnknownCase, ...] = Field(description="with columns unknown")
    worst: UnknownCase | None = Field(description="the lowest gain of these; null: the policy reads no such column")

    @classmethod
    def of(cls, all_known: Sequence[UnknownCase], cases: Sequence[UnknownCase]) -> "UnknownColumns":
        """The result of these cases."""
        worst = min(cases, key=lambda case: case.gain_vs_olla_pct, default=None)
        return cls(
            passed=worst is None or worst.gain_vs_olla_pct >= -MARGIN_PCT,
            margin_pct=MARGIN_PCT,
            all_known=tuple(all_known),
            cases=tuple(cases),
            worst=worst,
        )


class ShapeReport(ResultModel):
    """The shape of a policy."""

    cqi_order: CqiOrder
    nack_order: NackOrder
    cqi_drop: CqiDrop
    unknown_columns: UnknownColumns | None = Field(
        default=None, description="null: not run, because it needs the replay"
    )

    @property
    def passed(self) -> bool:
        """Whether every test that was run is passed."""
        tests = (self.cqi_order, self.nack_order, self.cqi_drop, self.unknown_columns)
        return all(test is None or test.passed for test in tests)
