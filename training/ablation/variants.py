"""The variants of the study: what is changed, against which the reference stands."""

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import JsonValue

REFERENCE: Final = "student"
"""KL with temperature, online, one generalist teacher, 32 x 32."""
TEACHER: Final = "teacher"

Kind = Literal["distilled", "privileged", "dqn", "teacher"]


@dataclass(frozen=True)
class Variant:
    """One way to make a policy."""

    name: str
    question: str
    """heading under which it is shown"""
    what: str
    """in words"""
    kind: Kind = "distilled"
    change: dict[str, JsonValue] = field(default_factory=dict)
    """settings that differ from the reference's"""
    specialists: bool = False
    """a teacher for each scenario instead of one for all"""


def _direct(schedule: str | None = None, algorithm: str = "genie") -> dict[str, JsonValue]:
    if schedule is None:
        return {}
    return {"algorithm": {"algorithm": algorithm, "schedule": schedule, "beta": 0.3}}


_LOSSES: Final = "Which loss"
_DATA: Final = "Whose data"
_TEACHERS: Final = "One teacher or several"
_SIZE: Final = "Size"
_DIRECT: Final = "Distilled, or trained directly"
_BETA: Final = "A classical algorithm in the loss"

VARIANTS: Final = (
    Variant(REFERENCE, _DIRECT, "distilled: KL, online, one generalist teacher, 32 x 32"),
    Variant(TEACHER, _DIRECT, "the generalist teacher itself", "teacher"),
    Variant("direct-privileged", _DIRECT, "32 x 32, trained on every error rate, no teacher", "privileged"),
    Variant("direct-rl", _DIRECT, "32 x 32, DQN, no teacher", "dqn"),
    Variant("mse", _LOSSES, "MSE of scores", change={"loss": {"kl": 0, "mse": 1}}),
    Variant("nll", _LOSSES, "NLL of the teacher's choice", change={"loss": {"kl": 0, "nll": 1}}),
    Variant("kl-nll", _LOSSES, "KL and NLL", change={"loss": {"kl": 1, "nll": 0.3}}),
    Variant("kl-cold", _LOSSES, "KL, temperature 0.01", change={"loss": {"temperature": 0.01}}),
    Variant("kl-hot", _LOSSES, "KL, temperature 0.1", change={"loss": {"temperature": 0.1}}),
    Variant("off-policy", _DATA, "the teacher drives", change={"driver": "teacher"}),
    Variant("multi-policy", _TEACHERS, "a specialist for each scenario", specialists=True),
    Variant("size-8", _SIZE, "8", change={"network": {"hidden": [8]}}),
    Variant("size-16-16", _SIZE, "16 x 16", change={"network": {"hidden": [16, 16]}}),
    Variant("size-64-64", _SIZE, "64 x 64", change={"network": {"hidden": [64, 64]}}),
    Variant(
        "gru", _SIZE, "a GRU of 24 instead of fixed filters", change={"network": {"memory": "gru", "hidden": [16]}}
    ),
    Variant("beta-fixed", _BETA, "direct-privileged and the genie, beta fixed", "privileged", _direct("fixed")),
    Variant("beta-decreasing", _BETA, "the same, beta decreasing", "privileged", _direct("decreasing")),
    Variant("beta-increasing", _BETA, "the same, beta increasing", "privileged", _direct("increasing")),
    Variant("beta-olla", _BETA, "OLLA instead of the genie, decreasing", "privileged", _direct("decreasing", "olla")),
)
