"""The subcommands of `distila` that are part of the runtime, and the summaries of all subcommands.

`distila --help` reads the summaries. They stand here, and not beside the commands of the replay and the training, so
that it imports neither of those packages: `distila.training` imports Gymnasium, if it is installed, and that numpy.
"""

from typing import Final, NamedTuple


class Summary(NamedTuple):
    """What `distila --help` says about a subcommand, without importing it."""

    text: str
    """One sentence."""
    extra: str = ""
    """What to install for it: ``pip install 'distila[extra]'``; empty: the runtime alone."""
    packages: tuple[str, ...] = ()
    """Packages of that extra that it imports; where one is missing, the command is not installed."""


_REPLAY: Final = ("pyarrow", "plotly", "jinja2")
_TRAINING: Final = ("torch", "sionna", "onnx", "matplotlib", "pyarrow")

SUMMARIES: Final = {
    "ablation": Summary("Run the ablation study of distillation.", "training", _TRAINING),
    "bench": Summary("Measure on this machine: the decision loop, replay, and simulation.", "replay", _REPLAY),
    "benchmark": Summary(
        "Compare link adaptation policies over scenario families, in simulation.", "training", _TRAINING
    ),
    "distill": Summary("Distil teachers into one compact student, in simulation.", "training", _TRAINING),
    "policy": Summary("Show a policy bundle, or check it."),
    "replay": Summary("Replay a trace against a policy and the DU's native OLLA; write a report.", "replay", _REPLAY),
    "resource": Summary("SINR optimisation: WMMSE, FPLinQ, and students that learn from them.", "training", _TRAINING),
    "ric-demo": Summary(
        "Run the xApp on a near-RT RIC of stand-ins, and check each step.",
        "replay,ric",
        (*_REPLAY, "redis", "fastapi"),
    ),
    "rollout": Summary("Run an A/B rollout of a policy: plan, start, watch, promote, abort; or simulate one.", "ric"),
    "run": Summary("Run the xApp: subscribe to an E2 node and answer its indications with decisions."),
    "student": Summary("Build the student that ships: teacher, distillation, benchmark, gates.", "training", _TRAINING),
    "trace": Summary("Import traces and logs, and print what they hold.", "replay", _REPLAY),
    "train": Summary("Train teachers, in simulation.", "training", _TRAINING),
}
