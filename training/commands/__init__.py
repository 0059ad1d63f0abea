"""Subcommands of `distila` that train, distil and compare policies; `distila --help` reads their summaries here."""

from typing import Final

from distila.xapp.commands import Summary

_PACKAGES: Final = ("torch", "sionna", "onnx", "matplotlib", "pyarrow")

SUMMARIES: Final = {
    "ablation": Summary("Run the ablation study of distillation.", "training", _PACKAGES),
    "benchmark": Summary(
        "Compare link adaptation policies over scenario families, in simulation.", "training", _PACKAGES
    ),
    "distill": Summary("Distil teachers into one compact student, in simulation.", "training", _PACKAGES),
    "resource": Summary("SINR optimisation: WMMSE, FPLinQ, and students that learn from them.", "training", _PACKAGES),
    "student": Summary("Build the student that ships: teacher, distillation, benchmark, gates.", "training", _PACKAGES),
    "train": Summary("Train teachers, in simulation.", "training", _PACKAGES),
}
