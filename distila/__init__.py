"""Distilled link adaptation: an O-RAN xApp that chooses the downlink MCS, and the workshop around it.

Decide with the student that ships, on one report of one cell:

    import distila

    loop = distila.DecisionLoop(distila.load_bundle("student"))
    decisions = loop.decide(report)  # a distila.KpiReport; its fields and units are in the class's docstring

Names are imported on first use, so that ``import distila`` needs neither torch nor the replay's libraries; a name whose
libraries are not installed raises `ModuleNotFoundError` when it is used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distila.xapp.errors import InputError
    from distila.xapp.kpi.report import KpiReport
    from distila.xapp.loop import DecisionLoop
    from distila.xapp.policy.bundle import Bundle, write_bundle

__all__ = ["Bundle", "DecisionLoop", "InputError", "KpiReport", "write_bundle"]

_WHERE: Final = {
    "Bundle": "distila.xapp.policy.bundle",
    "DecisionLoop": "distila.xapp.loop",
    "InputError": "distila.xapp.errors",
    "KpiReport": "distila.xapp.kpi.report",
    "write_bundle": "distila.xapp.policy.bundle",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("distila")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
