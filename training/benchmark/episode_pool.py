"""All episodes of a benchmark: banks first, then every policy on every scenario under every seed, over processes.

Each finished episode is a file, so that an interrupted run goes on where it was; a file counts only for the very
settings and code that it is the result of.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

from distila.training.benchmark.episode import Episode, EpisodePlan, run_episode
from distila.training.sim.bank import fading_bank
from distila.training.sim.scenario import ChannelConfig
from distila.training.sim.split import Split
from distila.xapp.errors import InputError
from distila.xapp.progress import Progress, no_progress

Item = TypeVar("Item")

_CODE: Final = (
    "distila.training.sim",
    "distila.training.baselines",
    "distila.training.network",
    "distila.xapp.nr",
    "distila.xapp.kpi",
    "distila.xapp.policy",
    "distila.xapp.e2",
)
_MODULES: Final = ("distila.training.benchmark.episode", "distila.training.benchmark.policies")
_PACKAGES: Final = ("torch", "numpy", "onnxruntime", "sionna-no-rt")


@dataclass(frozen=True)
class BankPlan:
    """A fading bank that episodes need; picklable."""

    channel: ChannelConfig
    rows: int
    slots: int
    split: Split
    seed: int
    cache: Path | None

    def make(self) -> None:
        """Generate it unless it is in the cache."""
        fading_bank(self.channel, self.rows, self.slots, self.split, self.seed, self.cache)


@functools.cache
def code_digest() -> str:
    """Of the files and packages that decide a result: after a change nothing old is taken for new."""
    digest = hashlib.sha256()
    for name in (*_CODE, *_MODULES):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        paths = (
            sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".npz"))
            if name in _CODE
            else [Path(spec.origin)]
        )
        for path in paths:
            digest.update(_meaning(path.read_bytes()) if path.suffix == ".py" else path.read_bytes())
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{package} {version(package)}".encode())
    return digest.hexdigest()[:16]


def _meaning(source: bytes) -> bytes:
    """Python source without comments, layout and docstrings, so that wording does not make results stale."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands alone is a docstring, of a module, class, function or attribute.
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def banks_of(plans: Iterable[EpisodePlan]) -> list[BankPlan]:
    """The banks that these episodes need, each once."""
    needed: dict[BankPlan, None] = {}
    for plan in plans:
        for channel in plan.scenario.channels:
            bank = plan.banks()
            needed[BankPlan(channel, bank.rows, bank.slots, plan.split, bank.seed, bank.cache)] = None
    return list(needed)


def episode_path(folder: Path, plan: EpisodePlan, code: str) -> Path:
    """Where an episode's result lies: one file for each scenario, policy, seed, set of settings and code."""
    fingerprint = hashlib.sha256(plan.describe(code).encode()).hexdigest()[:12]
    policy = "".join(c if c.isalnum() or c in "-_@" else "-" for c in plan.policy.name)[-60:]
    return folder / f"{plan.scenario.name}-{policy}-{plan.seed}-{fingerprint}.npz"


def run_all(
    plans: Sequence[EpisodePlan],
    folder: Path,
    jobs: int,
    on_bank: Progress = no_progress,
    on_episode: Progress = no_progress,
) -> list[Episode]:
    """Run what has no result yet.

    Args:
        plans: the episodes.
        folder: where results are kept, and found again.
        jobs: processes; 1: this one.
        on_bank, on_episode: called with the number done and the number of all.

    Returns:
        The results, in the order of ``plans``.

    Raises:
        InputError: a damaged file, a policy that does not fit a scenario, or a process that died.
    """
    # Asked once: code that is changed while a run goes on must not divide it in two.
    code = code_digest()
    # A sweep may ask for what a family has asked for already.
    plans_once = list(dict.fromkeys(plans))
    missing = [plan for plan in plans_once if _result(folder, plan, code) is None]
    banks = banks_of(missing)
    on_bank(0, len(banks))
    _for_each(_make_bank, banks, jobs, on_bank, 0, len(banks))
    done = len(plans_once) - len(missing)
    on_episode(done, len(plans_once))
    # The longest ones first, so that none of them is still running when all the others are done.
    missing.sort(key=_weight, reverse=True)
    work = functools.partial(_run_and_save, folder=folder, code=code)
    _for_each(work, missing, jobs, on_episode, done, len(plans_once))
    results = {plan: _result(folder, plan, code) for plan in plans_once}
    found = [result for plan in plans if (result := results[plan]) is not None]
    if len(found) < len(plans):
        lost = next(plan for plan, result in results.items() if result is None)
        raise InputError(
            f"{episode_path(folder, lost, code)} was deleted during the benchmark; run the benchmark again"
        )
    return found


def _weight(plan: EpisodePlan) -> float:
    period, slot_us = plan.scenario.longest_report_period_slots, plan.scenario.channels[0].slot_us
    per_slot = {"salad": 4.0, "thompson": 4.0, "genie": 3.0}.get(plan.policy.base, 1.0)
    return plan.sizes.in_slots(slot_us, period)[1] * per_slot


def _result(folder: Path, plan: EpisodePlan, code: str) -> Episode | None:
    return Episode.load(episode_path(folder, plan, code), plan.describe(code))


def _make_bank(plan: BankPlan) -> None:
    plan.make()


def _run_and_save(plan: EpisodePlan, folder: Path, code: str) -> None:
    run_episode(plan).save(episode_path(folder, plan, code), plan.describe(code))


def _begin_process() -> None:
    # An interrupt ends the process at once: the pool would otherwise go through all that is queued.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _one_thread()


def _one_thread() -> None:
    # Small tensors: two processes with a thread each do twice what one with two threads does.
    torch.set_num_threads(1)


def _for_each(
    work: Callable[[Item], Any], items: Sequence[Item], jobs: int, progress: Progress, done: int, total: int
) -> None:
    if jobs == 1 or len(items) < 2:
        _one_thread()
        for item in items:
            work(item)
            done += 1
            progress(done, total)
        return
    # Forking a process that runs torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(items)), context, initializer=_begin_process) as pool:
        pending: set[Future[Any]] = {pool.submit(work, item) for item in items}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done += 1
                progress(done, total)
        except BrokenProcessPool:
            raise InputError("a process died, perhaps because memory ran out; use fewer --jobs") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def known_device(name: str) -> str:
    """``cpu`` or ``cuda``, as given.

    Raises:
        InputError: there is no such device here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here")
    return name
