"""Figures of arXiv 2308.07511, read to about 0.002 bit/s/Hz; reproductions are shown beside them."""

from dataclasses import dataclass
from typing import Final, Literal

METHODS: Final = ("ad-decreasing", "ad-fixed", "ad-increasing", "supervised", "plain")
"""Algorithm distillation with decreasing, fixed and increasing beta; supervised learning; no algorithm in the loss."""


@dataclass(frozen=True)
class SeedFigure:
    """One figure of the paper.

    Attributes:
        title: what the figure shows.
        student: kind of the student.
        reinforcement: whether the student learns from rewards (reinforcement learning) or from samples.
        swept: the quantity on the horizontal axis.
        at: number of links and number of samples; 0 where it is swept or does not apply.
        values: sum rate [bit/s/Hz] of each of `METHODS`, by the swept quantity. A figure over epochs has the value
            after the last epoch, taken from a figure that sweeps links.
    """

    title: str
    student: Literal["mlp", "gnn"]
    reinforcement: bool
    swept: Literal["epochs", "links", "samples"]
    at: tuple[int, int]
    values: dict[int, tuple[float, float, float, float, float]]


FIGURES: Final[dict[str, SeedFigure]] = {
    "3a": SeedFigure(
        "MLP while it is trained", "mlp", False, "epochs", (20, 2000), {20: (1.858, 1.844, 1.831, 1.818, 1.635)}
    ),
    "3b": SeedFigure(
        "MLP over number of links",
        "mlp",
        False,
        "links",
        (0, 2000),
        {
            6: (1.629, 1.623, 1.619, 1.622, 1.560),
            10: (1.803, 1.794, 1.790, 1.785, 1.670),
            16: (1.883, 1.877, 1.869, 1.852, 1.678),
            20: (1.858, 1.844, 1.831, 1.818, 1.635),
        },
    ),
    "3c": SeedFigure(
        "MLP over number of samples",
        "mlp",
        False,
        "samples",
        (20, 0),
        {
            100: (0.888, 0.875, 0.867, 0.868, 0.789),
            1000: (1.648, 1.630, 1.605, 1.634, 1.407),
            5000: (1.982, 1.968, 1.967, 1.940, 1.891),
            10000: (2.029, 2.012, 2.007, 1.977, 2.004),
        },
    ),
    "4a": SeedFigure(
        "GNN while it is trained", "gnn", False, "epochs", (40, 1000), {40: (2.316, 2.294, 2.283, 2.069, 2.176)}
    ),
    "4b": SeedFigure(
        "GNN over number of links",
        "gnn",
        False,
        "links",
        (0, 1000),
        {
            12: (1.859, 1.855, 1.845, 1.769, 1.456),
            20: (2.068, 2.046, 2.040, 1.932, 1.802),
            40: (2.316, 2.294, 2.283, 2.069, 2.176),
        },
    ),
    "4c": SeedFigure(
        "GNN over number of samples",
        "gnn",
        False,
        "samples",
        (40, 0),
        {
            100: (1.532, 1.631, 1.748, 1.434, 1.463),
            500: (2.170, 2.183, 2.201, 1.878, 1.635),
            4000: (2.412, 2.381, 2.355, 2.201, 2.395),
        },
    ),
    "5": SeedFigure(
        "MLP while it learns from rewards", "mlp", True, "epochs", (10, 0), {10: (1.887, 1.893, 1.901, 1.833, 1.864)}
    ),
    "6": SeedFigure(
        "MLP, reinforcement learning, over number of links",
        "mlp",
        True,
        "links",
        (0, 0),
        {
            7: (1.798, 1.787, 1.783, 1.741, 1.762),
            10: (1.887, 1.893, 1.901, 1.833, 1.864),
            14: (1.996, 2.001, 2.002, 1.903, 1.976),
        },
    ),
    "7": SeedFigure(
        "GNN while it learns from rewards", "gnn", True, "epochs", (40, 0), {40: (2.417, 2.458, 2.427, 2.236, 1.425)}
    ),
    "8": SeedFigure(
        "GNN, reinforcement learning, over number of links",
        "gnn",
        True,
        "links",
        (0, 0),
        {
            12: (1.950, 1.935, 1.901, 1.853, 1.387),
            20: (2.165, 2.181, 2.136, 2.028, 1.410),
            40: (2.417, 2.458, 2.427, 2.236, 1.425),
        },
    ),
}
