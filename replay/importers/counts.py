"""Counts what an import read, used and skipped: `ImportReport`, which every importer returns with its trace or log.

Every row that looks like data is either used or counted in ``skipped`` under one reason,
so that ``rows_found == rows_used + sum(skipped.values())``. Remarks that exclude no row (a file cut
short, a segment whose SINR is only bounded) are counted in ``noted``. ::

    trace, report = import_ranalyzer(Path("logs"), bler=SmoothBler.load())
    for line in report.lines():
        print(line)
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Run:
    """One UE of one file, or the part of it that one trace UE holds; a line of the import's table.

    ``reports`` counts the rows of the run that could be used, ``first_tx`` and ``first_fail`` the first
    transmissions in them and the failures among these (``first_fail`` is None where the source does not count
    failures). ``skipped`` says why the run is not in the result; None where it is.
    """

    file: str
    ue: str
    reports: int
    first_tx: int
    first_fail: int | None
    skipped: str | None = None


@dataclass
class ImportReport:
    """Counts of one import.

    Attributes:
        files_read: files opened, also those without any data.
        rows_found: rows (lines, reports) that look like data.
        rows_used: rows that are in the result.
        skipped: rows that are not in the result, by reason.
        noted: assumptions and limits that exclude no row, by reason.
        examples: place of the first row of each reason, as "file: line n".
        runs: one entry per file and UE, used or not.
    """

    files_read: int = 0
    rows_found: int = 0
    rows_used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def skip(self, reason: str, count: int = 1, where: str = "") -> None:
        """Count ``count`` rows that are not used, and record the place of the first of them."""
        self._count(self.skipped, reason, count, where)

    def note(self, reason: str, count: int = 1, where: str = "") -> None:
        """Count a remark that excludes no row."""
        self._count(self.noted, reason, count, where)

    def _count(self, counter: Counter[str], reason: str, count: int, where: str) -> None:
        if count:
            counter[reason] += count
            if where:
                self.examples.setdefault(reason, where)

    @property
    def used_runs(self) -> list[Run]:
        """The runs that are in the result."""
        return [run for run in self.runs if run.skipped is None]

    def lines(self) -> list[str]:
        """The counts as lines of text: totals, then each reason with its count and its first place."""
        used = self.used_runs
        first_tx = sum(run.first_tx for run in used)
        text = (
            f"{self.files_read} files, {self.rows_found} rows found, {self.rows_used} used;"
            f" {len(used)} of {len(self.runs)} runs used, {first_tx} first transmissions"
        )
        counted = [run for run in used if run.first_fail is not None]
        if counted and first_tx:
            failed = sum(run.first_fail or 0 for run in counted)
            text += f", {failed} failed ({failed / first_tx:.2%})"
        return [
            text,
            *(self._line("skipped", reason, count) for reason, count in self.skipped.most_common()),
            *(self._line("noted", reason, count) for reason, count in self.noted.most_common()),
        ]

    def why_nothing(self) -> str:
        """The most frequent reasons in one line, for the error message of an import without a result."""
        reasons = self.skipped.most_common(3) or self.noted.most_common(3)
        if not reasons:
            return "no line looks like data"
        return "; ".join(self._line("", reason, count).strip() for reason, count in reasons)

    def _line(self, kind: str, reason: str, count: int) -> str:
        where = f" (first: {self.examples[reason]})" if reason in self.examples else ""
        return f"{kind} {count} x {reason}{where}"
