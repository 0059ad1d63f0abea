"""One function over many items: here, or on the workers of a Ray cluster (extra ``scale``)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from distila.xapp.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def fan_out(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results in the order of the items, each as soon as it and all before it are done.

    A function of its argument alone gives the same results wherever it runs: each worker has one torch thread, as the
    callers have.

    Args:
        function: picklable.
        items: picklable.
        workers: 1: in this process; more: Ray tasks, at most so many at once, on the cluster that ``RAY_ADDRESS`` names
            or, without it, on this machine.

    Raises:
        InputError: several workers without Ray.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    ray = _ray(workers)

    def one_thread(item: Item) -> Result:
        torch.set_num_threads(1)
        return function(item)

    remote = ray.remote(one_thread)
    waiting: list[Any] = []
    submitted = 0
    for _ in items:
        while submitted < len(items) and len(waiting) < workers:
            waiting.append(remote.remote(items[submitted]))
            submitted += 1
        try:
            yield ray.get(waiting.pop(0))
        except ray.exceptions.RayTaskError as error:
            # The same exception as without workers.
            raise error.cause from None


def _ray(workers: int) -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(f"{workers} workers need Ray: pip install 'distila[scale]', or take 1 worker") from None
    if not ray.is_initialized():
        ray.init(num_cpus=None, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    return ray
