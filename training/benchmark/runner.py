"""All episodes of a benchmark: banks first, then every policy on every scenario under every seed, over processes.

Each finished episode is a file, so that an interrupted run goes on where it was; a file counts only for the very
settings and code that it is the result of.
"""

import functools
import hashlib
import importlib.util
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

from training.benchmark.episode import Episode, EpisodePlan, run_episode
from training.sim.bank import fading_bank
from training.sim.scenario import ChannelConfig
from training.sim.split import Split
from xapp.errors import InputError

Progress = Callable[[int, int], None]
Item = TypeVar("Item")

_CODE: Final = ("training.sim", "training.baselines", "xapp.nr", "xapp.policy")


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
    """Of the source files that decide what an episode's result is: after a change nothing old is taken for new."""
    digest = hashlib.sha256()
    for package in _CODE:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for folder in spec.submodule_search_locations or ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def banks_of(plans: Iterable[EpisodePlan]) -> list[BankPlan]:
    """The banks that these episodes need, each once."""
    needed: dict[BankPlan, None] = {}
    for plan in plans:
        for channel in plan.scenario.channels:
            bank = plan.banks()
            needed[BankPlan(channel, bank.rows, bank.slots, plan.split, bank.seed, bank.cache)] = None
    return list(needed)


def episode_path(folder: Path, plan: EpisodePlan) -> Path:
    """Where an episode's result lies: one file for each scenario, policy, seed and set of settings."""
    fingerprint = hashlib.sha256(plan.describe(code_digest()).encode()).hexdigest()[:12]
    policy = "".join(c if c.isalnum() or c in "-_@" else "-" for c in plan.policy.name)[-60:]
    return folder / f"{plan.scenario.name}-{policy}-{plan.seed}-{fingerprint}.npz"


def run_all(
    plans: Sequence[EpisodePlan],
    folder: Path,
    jobs: int,
    on_bank: Progress = lambda done, total: None,
    on_episode: Progress = lambda done, total: None,
) -> list[Episode]:
    """Run what has no result yet.

    Args:
        plans: the episodes.
        folder: where results are kept, and found again.
        jobs: processes; 1: this one.
        on_bank, on_episode: told how many are done, of how many.

    Returns:
        The results, in the order of ``plans``.

    Raises:
        InputError: a damaged file, or a policy that does not fit a scenario.
    """
    missing = [plan for plan in plans if _result(folder, plan) is None]
    banks = banks_of(missing)
    on_bank(0, len(banks))
    _for_each(_make_bank, banks, jobs, on_bank, 0, len(banks))
    done = len(plans) - len(missing)
    on_episode(done, len(plans))
    # The longest ones first, so that none of them is still running when all the others are done.
    missing.sort(key=_weight, reverse=True)
    _for_each(functools.partial(_run_and_save, folder=folder), missing, jobs, on_episode, done, len(plans))
    results = [_result(folder, plan) for plan in plans]
    return [result for result in results if result is not None]


def _weight(plan: EpisodePlan) -> float:
    period = plan.scenario.e2.period_slots.bounds[1]
    per_slot = {"salad": 4.0, "thompson": 4.0, "genie": 3.0}.get(plan.policy.base, 1.0)
    return plan.sizes.in_periods(int(period))[1] * per_slot


def _result(folder: Path, plan: EpisodePlan) -> Episode | None:
    return Episode.load(episode_path(folder, plan), plan.describe(code_digest()))


def _make_bank(plan: BankPlan) -> None:
    plan.make()


def _run_and_save(plan: EpisodePlan, folder: Path) -> None:
    run_episode(plan).save(episode_path(folder, plan), plan.describe(code_digest()))


def _one_thread() -> None:
    # Small tensors: two processes with a thread each do twice what one with two threads does.
    torch.set_num_threads(1)


def _for_each(
    work: Callable[[Item], Any], items: Sequence[Item], jobs: int, progress: Progress, done: int, total: int
) -> None:
    if jobs == 1 or len(items) < 2:
        for item in items:
            work(item)
            done += 1
            progress(done, total)
        return
    # Forking a process that runs torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(items)), context, initializer=_one_thread) as pool:
        pending: set[Future[Any]] = {pool.submit(work, item) for item in items}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done += 1
                progress(done, total)
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
