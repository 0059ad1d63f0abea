"""How fast the decision loop is, measured on indications that a real replay produced."""

import gc
import time
from typing import Final

from distila.replay.bench_load import widen
from distila.replay.bench_results import E2apFigures, LoopFigures, ReplaySpeed, RolloutCost, RolloutCosts
from distila.replay.closed_loop import InProcess, run
from distila.replay.du_config import DuConfig
from distila.replay.e2_node import E2Node
from distila.replay.trace import ChannelTrace
from distila.replay.xapp_process import XappProcess
from distila.xapp.e2 import e2ap
from distila.xapp.e2.e2ap import ControlRequest, Indication, RicRequest
from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.arm import Arm, Lineup
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.progress import Progress
from distila.xapp.rollout.assignment import Assignment
from distila.xapp.rollout.kpi import KpiMeter
from distila.xapp.rollout.plan import Plan
from distila.xapp.stats import LatencyRecorder, LoopSummary

_WARM_UP: Final = 200
_ANSWER_TIMEOUT_S: Final = 10.0
_ACCOUNTED: Final = 100
_NO_DEADLINE: Final = GuardConfig(deadline_us=None)
"""A late decision is timed like any other, so that a busy machine changes the times and nothing else."""


def bench_in_process(bundle: Bundle, encoded: list[tuple[bytes, bytes]], progress: Progress) -> LoopFigures:
    """Time `DecisionLoop.step`, indication bytes to control bytes, on one thread."""
    loop = DecisionLoop(bundle, guard_config=_NO_DEADLINE)
    for header, message in encoded[:_WARM_UP]:
        loop.step(header, message)
    for recorder in loop.stats.latency.values():
        recorder.clear()
    decided_before = loop.stats.decisions
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    for done, (header, message) in enumerate(encoded[_WARM_UP:]):
        loop.step(header, message)
        if done % 1024 == 0:
            progress(done, len(encoded) - _WARM_UP)
    elapsed_s = time.perf_counter() - start
    gc.unfreeze()
    decided = loop.stats.decisions - decided_before
    return loop_figures(loop.stats.summary(), loop.stats.latency["total"], decided / elapsed_s)


def bench_e2ap(bundle: Bundle, encoded: list[tuple[bytes, bytes]], progress: Progress) -> E2apFigures:
    """Time the decision loop with E2AP around the service model, PDU to PDU, on one thread."""
    request = RicRequest(123, 1, 200)
    pdus = [
        e2ap.encode_indication(Indication(request, 1, header, message, sequence % 65536))
        for sequence, (header, message) in enumerate(encoded)
    ]
    loop = DecisionLoop(bundle, guard_config=_NO_DEADLINE)
    total, decode, encode, by_pycrate = (LatencyRecorder() for _ in range(4))
    clock_ns = time.perf_counter_ns
    decided_before, start = 0, 0.0
    for done, pdu in enumerate(pdus):
        if done == _WARM_UP:
            for recorder in (*loop.stats.latency.values(), total, decode, encode, by_pycrate):
                recorder.clear()
            decided_before, start = loop.stats.decisions, time.perf_counter()
            gc.collect()
            gc.freeze()
        start_ns = clock_ns()
        indication = e2ap.decode_indication(pdu)
        decoded_ns = clock_ns()
        control = loop.step(indication.header, indication.message)
        decided_ns = clock_ns()
        if control is not None:
            e2ap.encode_control_request(ControlRequest(indication.request, b"\x00\x00\x00\x01", *control))
        end_ns = clock_ns()
        decode.add((decoded_ns - start_ns) / 1000)
        encode.add((end_ns - decided_ns) / 1000)
        total.add((end_ns - start_ns) / 1000)
        if done % 1024 == 0:
            progress(done, len(pdus))
    elapsed_s = time.perf_counter() - start
    gc.unfreeze()
    for pdu in pdus[: 10 * _WARM_UP]:
        start_ns = clock_ns()
        e2ap.decode_by_pycrate(pdu)
        by_pycrate.add((clock_ns() - start_ns) / 1000)
    figures = loop_figures(loop.stats.summary(), total, (loop.stats.decisions - decided_before) / elapsed_s)
    stages = {"e2ap_decode": decode.summary(), **figures.stages_us, "e2ap_encode": encode.summary()}
    return E2apFigures(
        **{**dict(figures), "stages_us": stages},
        pycrate_decode_us=by_pycrate.summary(),
    )


def bench_rollout(
    bundle: Bundle, other: Bundle, encoded: list[tuple[bytes, bytes]], progress: Progress
) -> RolloutCosts:
    """Time the decision loop without a rollout and with three of them, alternating with every indication.

    ``assignment``: half the UEs on the control and half on a challenger, both with the same policy, and every report
    counted: the cost of the rollout itself. ``small_challenger`` and ``half_challenger``: the challenger has
    another policy, so that the graph runs twice. ``account_us`` is the time to add up the KPIs, which the controller's
    thread does; it is spread over the indications.
    """
    loops: dict[str, DecisionLoop] = {"plain": DecisionLoop(bundle, guard_config=_NO_DEADLINE)}
    for name, policy, share in (
        ("assignment", bundle, 50.0),
        ("small_challenger", other, 5.0),
        ("half_challenger", other, 50.0),
    ):
        stage = {"name": "bench", "share_pct": {"challenger": share}, "control_pct": 50}
        challenger = {"name": "challenger", "policy": "olla"}
        plan = Plan.model_validate({"name": "bench", "challengers": [challenger], "stages": [stage]})
        loop = loops[name] = DecisionLoop(bundle, guard_config=_NO_DEADLINE)
        champion = loop.lineup.arms[0]
        engine = champion.engine if policy is bundle else loop.engine(policy)
        loop.deploy(Lineup((champion, Arm("control", champion.engine), Arm("challenger", engine)), Assignment(plan, 0)))
        loop.meter = KpiMeter(frozenset(), False, plan.latency_budget_us)
    times = {name: LatencyRecorder() for name in loops}
    account_ns = dict.fromkeys(loops, 0)
    gc.collect()
    gc.freeze()
    names = list(loops)
    for done, (header, message) in enumerate(encoded):
        # The first loop finds the message cold in the cache, so the loops take turns to be first.
        first = done % len(names)
        for name in names[first:] + names[:first]:
            loop = loops[name]
            start_ns = time.perf_counter_ns()
            loop.step(header, message)
            times[name].add((time.perf_counter_ns() - start_ns) / 1000)
            if done % _ACCOUNTED == _ACCOUNTED - 1 and isinstance(loop.meter, KpiMeter):
                start_ns = time.thread_time_ns()
                loop.meter.drain()
                account_ns[name] += time.thread_time_ns() - start_ns
        if done == _WARM_UP:
            for recorder in times.values():
                recorder.clear()
        if done % 256 == 0:
            progress(done, len(encoded))
    gc.unfreeze()
    plain = times["plain"].summary().p50 or 1.0
    costs = {}
    for name, recorder in times.items():
        took = recorder.summary()
        account_us = account_ns[name] / 1000 / len(encoded)
        costs[name] = RolloutCost(
            p50_us=took.p50,
            p99_us=took.p99,
            max_us=took.max,
            account_us=round(account_us, 2),
            p50_over_plain_pct=round(100 * ((took.p50 or 0) / plain - 1), 1),
            with_account_pct=round(100 * (((took.p50 or 0) + account_us) / plain - 1), 1),
        )
    return RolloutCosts(**costs)


def bench_over_grpc(policy: str, encoded: list[tuple[bytes, bytes]], progress: Progress) -> LoopFigures:
    """Time the round trip to an xApp in another process over gRPC on loopback, one indication at a time.

    Raises:
        InputError: the xApp did not answer.
    """
    node = E2Node()
    process = None
    latency = LatencyRecorder()
    answered = 0
    try:
        process = XappProcess(node, policy, deadline=False)
        start = time.perf_counter()
        for done, (header, message) in enumerate(encoded):
            sent_ns = time.perf_counter_ns()
            node.publish(header, message)
            answer = node.receive(_ANSWER_TIMEOUT_S)
            if answer is None:
                raise InputError(f"no answer to indication {done} within {_ANSWER_TIMEOUT_S} s")
            answer.accept()
            if done == _WARM_UP:
                latency.clear()
                answered, start = 0, time.perf_counter()
            latency.add((answer.arrived_ns - sent_ns) / 1000)
            answered += len(answer.decisions.rnti)
            if done % 1024 == 0:
                progress(done, len(encoded))
        elapsed_s = time.perf_counter() - start
        node.end()
        stats = process.finish()
    except BaseException:
        if process is not None:
            process.kill()
        node.end(grace_s=0)
        raise
    return loop_figures(stats, latency, answered / elapsed_s)


def loop_figures(stats: LoopSummary, total: LatencyRecorder, ue_decisions_per_s: float) -> LoopFigures:
    """The figures of a benchmark of the loop; ``total`` holds the durations from end to end."""
    took = total.summary()
    return LoopFigures(
        stages_us={stage: figures for stage, figures in stats.latency_us.items() if stage != "total"},
        p50_us=took.p50,
        p99_us=took.p99,
        max_us=took.max,
        ue_decisions_per_s=round(ue_decisions_per_s),
        dropped=stats.dropped,
        guarded=stats.guarded or {},
    )


def bench_replay(
    bundle: Bundle, trace: ChannelTrace, num_ues: int, slots: int, progress: Progress
) -> tuple[ReplaySpeed, ReplaySpeed]:
    """Time a closed-loop replay in process with a decision every slot, and the DU alone, without an xApp."""
    wide = widen(trace, num_ues)
    loop = DecisionLoop(bundle, guard_config=_NO_DEADLINE)
    return _replay_speed(wide, InProcess(loop), slots, progress), _replay_speed(wide, None, slots, progress)


def _replay_speed(trace: ChannelTrace, controller: InProcess | None, slots: int, progress: Progress) -> ReplaySpeed:
    start = time.perf_counter()
    record, _ = run(
        trace, SmoothBler.load(), DuConfig(), seed=0, controller=controller, max_slots=slots, progress=progress
    )
    elapsed_s = time.perf_counter() - start
    return ReplaySpeed(ue_slots_per_s=round(record.slots.sum() / elapsed_s), elapsed_s=round(elapsed_s, 3))
