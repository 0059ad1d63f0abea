"""Which pages a benchmark has: ``report.html`` is the headline, at equal BLER; ``global.html`` the second one.

Without BLER targets ``report.html`` is the comparison with OLLA tuned for goodput.
"""

from pathlib import Path
from typing import Final

from distila.training.benchmark.frontier_page import write_frontier_page
from distila.training.benchmark.global_page import write_global_page
from distila.training.benchmark.results import BenchmarkResults

PAGE_FILE: Final = "report.html"
GLOBAL_PAGE_FILE: Final = "global.html"


def write_pages(folder: Path, results: BenchmarkResults) -> None:
    """Write the pages of a benchmark into ``folder``; a second page of an earlier run that has none now is removed."""
    (folder / GLOBAL_PAGE_FILE).unlink(missing_ok=True)
    if not results.targets:
        write_global_page(folder / PAGE_FILE, results)
        return
    write_frontier_page(folder / PAGE_FILE, results)
    if results.globally_tuned is not None:
        write_global_page(folder / GLOBAL_PAGE_FILE, results)
