"""Distilled link adaptation: an O-RAN xApp that chooses the downlink MCS, and the offline tools around it.

Decide with the student that ships, on one report of one UE::

    import distila

    loop = distila.DecisionLoop(distila.load_bundle("student"), guard_config=distila.GuardConfig(deadline_us=None))
    report = distila.KpiReport.of(rnti=[0x4601], cqi=[9])
    print(loop.decide(report))

`DecisionLoop.decide` returns None for a report that it drops: one without a UE, or one whose number came before.

Bad input raises `InputError`, one line that a person can act on; a setting out of its range raises
`pydantic.ValidationError`, which names it. Both are a `ValueError`.

Names are imported on first use, so that ``import distila`` needs neither torch nor numpy. A name whose libraries are
not installed raises `ModuleNotFoundError`, which says how to install them, when it is used.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distila.replay.compared_run import ReplayOptions
    from distila.replay.comparison import replay_trace
    from distila.replay.du_config import DuConfig
    from distila.training.benchmark.suite import Benchmark, run_benchmark
    from distila.training.gym_env import LinkAdaptationEnv
    from distila.xapp.errors import InputError
    from distila.xapp.kpi.report import Decisions, KpiReport
    from distila.xapp.loop import DecisionLoop, LoopConfig
    from distila.xapp.policy.bundle import Action, Bundle, load_bundle, write_bundle
    from distila.xapp.policy.guard import GuardConfig

    __version__: str

__all__ = [
    "Action",
    "Benchmark",
    "Bundle",
    "DecisionLoop",
    "Decisions",
    "DuConfig",
    "GuardConfig",
    "InputError",
    "KpiReport",
    "LinkAdaptationEnv",
    "LoopConfig",
    "ReplayOptions",
    "__version__",
    "load_bundle",
    "replay_trace",
    "run_benchmark",
    "write_bundle",
]

_HOME: Final = {
    "Action": "xapp.policy.bundle",
    "Benchmark": "training.benchmark.suite",
    "Bundle": "xapp.policy.bundle",
    "DecisionLoop": "xapp.loop",
    "Decisions": "xapp.kpi.report",
    "DuConfig": "replay.du_config",
    "GuardConfig": "xapp.policy.guard",
    "InputError": "xapp.errors",
    "KpiReport": "xapp.kpi.report",
    "LinkAdaptationEnv": "training.gym_env",
    "LoopConfig": "xapp.loop",
    "ReplayOptions": "replay.compared_run",
    "load_bundle": "xapp.policy.bundle",
    "replay_trace": "replay.comparison",
    "run_benchmark": "training.benchmark.suite",
    "write_bundle": "xapp.policy.bundle",
}
_EXTRAS: Final = {"replay": "[replay]", "training": "[training]"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("distila")
    if name not in _HOME:
        raise AttributeError(f"module 'distila' has no attribute {name!r}")
    home = _HOME[name]
    try:
        found = getattr(import_module(f"distila.{home}"), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(home.partition(".")[0], "")
        text = f"distila.{name} needs the package {error.name!r}: pip install 'distila{extra}'"
        raise ModuleNotFoundError(text, name=error.name) from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
