"""Speed of the xApp over RMR, in a process of its own: round trip, a burst, and round trips while policies are swapped.

For comparison: the round trip of a health check, which passes through RMR and both processes and does nothing else.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from distila.replay.bench_results import BurstFigures, PacedFigures, RmrFigures
from distila.replay.loop_bench import loop_figures
from distila.replay.ric.demo import point, relabelled
from distila.replay.ric.e2term import E2Term
from distila.replay.ric.xapp_over_rmr import xapp_over_rmr
from distila.xapp.config import RunConfig
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import BUNDLES
from distila.xapp.progress import Progress
from distila.xapp.stats import LatencyRecorder

_WARM_UP: Final = 200
_ANSWER_TIMEOUT_S: Final = 2.0
_CHECKS: Final = 1000
_BURST: Final = 5000
_SWAPS: Final = 10
_BETWEEN_SWAPS: Final = 30
_PERIOD_S: Final = 0.01


def bench_over_rmr(policy: str, encoded: list[tuple[bytes, bytes]], progress: Progress) -> RmrFigures:
    """Time the round trip to an xApp in another process over RMR on loopback, one indication at a time; then the rest.

    Args:
        policy: as for `distila run --policy`.
        encoded: consecutive indications; the last `_BURST` and some are kept for burst and swaps.
        progress: called with indications done and in all.

    Raises:
        InputError: librmr is not installed, the xApp did not answer, or there are too few indications.
    """
    if len(encoded) < _BURST + 2 * _SWAPS * _BETWEEN_SWAPS + 2 * _WARM_UP:
        raise InputError(
            f"{len(encoded)} indications: a benchmark over RMR needs 6000 or more, burst and swaps included"
        )
    latency, checks = LatencyRecorder(), LatencyRecorder()
    with TemporaryDirectory() as temporary:
        first, second = relabelled(BUNDLES.find(policy), Path(temporary))
        link = Path(temporary) / "policy"
        link.symlink_to(first.name)
        with xapp_over_rmr(str(link), RunConfig(watch_every_s=0.1)) as (node, process):
            for _ in range(_CHECKS):
                took_s = node.health_check(_ANSWER_TIMEOUT_S)
                if took_s is not None:
                    checks.add(1e6 * took_s)
            rest = iter(encoded)
            count = len(encoded) - _BURST - 2 * _SWAPS * _BETWEEN_SWAPS
            answered, start = 0, 0.0
            for done in range(count):
                if done == _WARM_UP:
                    latency.clear()
                    answered, start = 0, time.perf_counter()
                took_us, ues, _ = _ask(node, *next(rest))
                latency.add(took_us)
                answered += ues
                if done % 1024 == 0:
                    progress(done, len(encoded))
            rate = answered / (time.perf_counter() - start)
            paced = _paced(node, rest, link, (first, first))
            swaps = _paced(node, rest, link, (first, second))
            burst = _burst(node, [next(rest) for _ in range(_BURST)])
            process.terminate()
            stats = process.finish()
    figures = loop_figures(stats, latency, rate)
    return RmrFigures(
        **dict(figures),
        lost=stats.lost,
        rmr_health_check_us=checks.summary(),
        paced=paced,
        hot_swap=swaps,
        burst=burst,
    )


def _ask(node: E2Term, header: bytes, message: bytes) -> tuple[float, int, str]:
    """Round trip [us], number of UEs in the answer, and digest of the policy that decided."""
    sent_ns = time.perf_counter_ns()
    node.publish(header, message)
    answer = node.receive(_ANSWER_TIMEOUT_S)
    if answer is None:
        raise InputError(f"no answer over RMR within {_ANSWER_TIMEOUT_S} s")
    answer.accept()
    return (answer.arrived_ns - sent_ns) / 1000, len(answer.decisions.rnti), answer.decisions.arms[0][1]


def _paced(node: E2Term, rest: Iterator[tuple[bytes, bytes]], link: Path, bundles: tuple[Path, Path]) -> PacedFigures:
    """Indications every 10 ms, all of them answered, while the link points to one bundle and the other in turn."""
    took = LatencyRecorder()
    changes, latest = 0, ""
    for swap in range(_SWAPS):
        point(link, bundles[(swap + 1) % 2])
        for _ in range(_BETWEEN_SWAPS):
            took_us, _, digest = _ask(node, *next(rest))
            took.add(took_us)
            changes += digest != latest
            latest = digest
            time.sleep(max(0.0, _PERIOD_S - took_us / 1e6))
    times = took.summary()
    return PacedFigures(**dict(times), swaps_seen=changes - 1, indications=took.count, unanswered=0)


def _burst(node: E2Term, encoded: list[tuple[bytes, bytes]]) -> BurstFigures:
    """Send indications as fast as RMR accepts them, and time the answer to the newest one."""
    answers, newest, newest_us = 0, -1, 0.0
    start_ns = sent_ns = time.perf_counter_ns()

    def take(timeout_s: float) -> bool:
        nonlocal answers, newest, newest_us
        answer = node.receive(timeout_s)
        if answer is None:
            return False
        answer.accept()
        answers += 1
        if answer.decisions.answers_sequence > newest:
            newest, newest_us = answer.decisions.answers_sequence, (answer.arrived_ns - sent_ns) / 1000
        return True

    for header, message in encoded:
        node.publish(header, message)
        sent_ns = time.perf_counter_ns()
        while take(0):
            pass
    while take(0.5):
        pass
    return BurstFigures(
        sent=len(encoded),
        sent_per_s=round(len(encoded) / ((sent_ns - start_ns) / 1e9)),
        not_sent=node.dropped["rmr_not_sent"],
        answered=answers,
        newest_answered_after_us=round(newest_us, 1),
    )
