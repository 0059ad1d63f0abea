"""Exports students as ONNX graphs, for any number of instances and (perceptrons excepted) of links.

A graph maps ``snr`` float32 [instance, rx, tx] (`distila.training.resource.problems`) to ``power`` float32 [instance,
link]; the graph of an unrolled student also takes ``start`` float32 [instance, start, link], and gives the best of
its candidates.
"""

import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from distila.training.resource.students import MlpConfig, Student, UnrolledGnn
from distila.xapp.errors import InputError
from distila.xapp.files import replacing

_OPSET: Final = 17


class _Best(nn.Module):
    """Picks the candidate with the highest sum rate, in operations that ONNX has."""

    def __init__(self, student: UnrolledGnn) -> None:
        super().__init__()
        self.student = student

    def forward(self, snr: Tensor, start: Tensor) -> Tensor:
        power: Tensor = self.student(snr, start)
        direct = torch.diagonal(snr, dim1=1, dim2=2).unsqueeze(1)
        index = torch.arange(snr.shape[1])
        cross = snr.masked_fill(index.unsqueeze(0) == index.unsqueeze(1), 0.0)
        rate = torch.log2(1 + direct * power / (torch.bmm(power, cross.transpose(1, 2)) + 1)).sum(-1)
        best = rate.argmax(1).reshape(-1, 1, 1).expand(-1, 1, power.shape[2])
        return power.gather(1, best).squeeze(1)


class _Only(nn.Module):
    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, snr: Tensor) -> Tensor:
        power: Tensor = self.student(snr)
        return power.squeeze(1)


def export_onnx(student: Student, path: Path) -> None:
    """Write a student as ONNX, replacing an existing file. It must be on the CPU and in evaluation mode.

    Raises:
        InputError: the student uses the weights of links, or the file cannot be written.
    """
    instance = {0: "instance"}
    axes: dict[str, dict[int, str]] = {"snr": dict(instance), "power": dict(instance)}
    links = student.config.links if isinstance(student.config, MlpConfig) else 5
    inputs: tuple[Tensor, ...] = (torch.rand(3, links, links) + 0.1,)
    module: nn.Module = _Only(student)
    if not isinstance(student.config, MlpConfig):
        axes["snr"] |= {1: "link", 2: "link"}
        axes["power"] |= {1: "link"}
    if isinstance(student, UnrolledGnn):
        if student.config.weighted:
            raise InputError("export: a student that uses the weights of links cannot be exported")
        module = _Best(student)
        inputs = (*inputs, torch.ones(3, 2, links))
        axes["start"] = {**instance, 1: "start", 2: "link"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch prefers its other exporter, which needs onnxscript
        try:
            with replacing(path) as partial:
                arguments: Any = inputs
                torch.onnx.export(
                    module.eval(),
                    arguments,
                    str(partial),
                    input_names=["snr", "start"][: len(inputs)],
                    output_names=["power"],
                    dynamic_axes=axes,
                    opset_version=_OPSET,
                    dynamo=False,
                )
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
