"""How fast the decision loop is, measured on indications that a real replay produced."""

import gc
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from distila.replay.closed_loop import InProcess, run
from distila.replay.du import Du, DuConfig
from distila.replay.e2_node import E2Node
from distila.replay.trace import ChannelTrace, TraceMeta
from distila.replay.xapp_process import XappProcess
from distila.xapp.e2 import e2ap
from distila.xapp.e2.codec import Identity, encode_indication
from distila.xapp.e2.e2ap import ControlRequest, Indication, RicRequest
from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.arm import Arm, Lineup
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.rollout.assignment import Assignment
from distila.xapp.rollout.kpi import KpiMeter
from distila.xapp.rollout.plan import parse_plan
from distila.xapp.stats import LatencyRecorder

_WARM_UP: Final = 200
_ANSWER_TIMEOUT_S: Final = 10.0
_ACCOUNTED: Final = 100
_NO_DEADLINE: Final = GuardConfig(deadline_us=None)
"""A late decision is timed like any other, so that a busy machine changes the times and nothing else."""

Progress = Callable[[int, int], None]


def widen(trace: ChannelTrace, num_ues: int) -> ChannelTrace:
    """The trace's UEs over and over until there are ``num_ues`` of them."""
    pick = [i % trace.num_ues for i in range(num_ues)]
    ues = [trace.meta.ues[i].model_copy(update={"name": f"ue{n}"}) for n, i in enumerate(pick)]
    rows = [np.arange(trace.offset[i], trace.offset[i + 1]) for i in pick]
    index = np.concatenate(rows)
    meta = TraceMeta.model_validate({**trace.meta.model_dump(), "ues": [ue.model_dump() for ue in ues]})
    offset = np.cumsum([0, *(len(row) for row in rows)])
    return ChannelTrace(meta, offset, trace.slots[index], trace.sinr_db[index], trace.cqi[index])


def indications(trace: ChannelTrace, num_ues: int, count: int) -> list[tuple[bytes, bytes]]:
    """Header and message of ``count`` consecutive reports of a cell with ``num_ues`` UEs, one report each slot."""
    wide = widen(trace, num_ues)
    du = Du(wide, SmoothBler.load(), DuConfig(), seed=0)
    identity = Identity(app_id="distila-bench", e2_node_id="bench")
    length = int(wide.num_slots.min())
    encoded = []
    sinr_db, cqi, _ = wide.window(0, min(length, count))
    for slot in range(count):
        # A trace that is too short starts again; the sequence of reports goes on.
        row = slot % len(sinr_db)
        du.receive_feedback(slot, sinr_db[row], cqi[row])
        encoded.append(encode_indication(du.report(slot), identity))
        du.transmit(slot, sinr_db[row])
    return encoded


def bench_in_process(
    bundle: Bundle, encoded: list[tuple[bytes, bytes]], progress: Progress, with_e2ap: bool = False
) -> dict[str, Any]:
    """Time `DecisionLoop.step`, indication bytes to control bytes, on one thread; with E2AP around both if asked to."""
    if with_e2ap:
        return _bench_e2ap(bundle, encoded, progress)
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
    return loop_figures(loop.stats.as_dict(), loop.stats.latency["total"], decided / elapsed_s)


def _bench_e2ap(bundle: Bundle, encoded: list[tuple[bytes, bytes]], progress: Progress) -> dict[str, Any]:
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
    result = loop_figures(loop.stats.as_dict(), total, (loop.stats.decisions - decided_before) / elapsed_s)
    stages = {"e2ap decode": decode.summary(), **result["stages_us"], "e2ap encode": encode.summary()}
    return {**result, "stages_us": stages, "pycrate_decode_us": by_pycrate.summary()}


def bench_rollout(
    bundle: Bundle, other: Bundle, encoded: list[tuple[bytes, bytes]], progress: Progress
) -> dict[str, Any]:
    """Time the decision loop without a rollout and in three of them, in turns, indication by indication.

    ``assignment``: half the UEs on the control and half on a challenger, both with the same policy, and every report
    accounted for: what the rollout itself costs. ``small_challenger`` and ``half_challenger``: the challenger has
    another policy, so that the graph runs twice. ``account_us`` is what adding up costs, which the controller's thread
    does; it is spread over the indications.
    """
    loops: dict[str, DecisionLoop] = {"plain": DecisionLoop(bundle, guard_config=_NO_DEADLINE)}
    for name, policy, share in (
        ("assignment", bundle, 50.0),
        ("small_challenger", other, 5.0),
        ("half_challenger", other, 50.0),
    ):
        stage = {"name": "bench", "share_pct": {"challenger": share}, "control_pct": 50}
        challenger = {"name": "challenger", "policy": "olla"}
        plan = parse_plan({"name": "bench", "challengers": [challenger], "stages": [stage]}, "bench")
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
        # Who comes first finds the message cold, so everybody comes first in turn.
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
    plain = times["plain"].summary()["p50"] or 1.0
    result = {}
    for name, recorder in times.items():
        figures = recorder.summary()
        account_us = account_ns[name] / 1000 / len(encoded)
        result[name] = {
            **{f"{key}_us": value for key, value in figures.items()},
            "account_us": round(account_us, 2),
            "p50_over_plain_pct": round(100 * ((figures["p50"] or 0) / plain - 1), 1),
            "with_account_pct": round(100 * (((figures["p50"] or 0) + account_us) / plain - 1), 1),
        }
    return result


def bench_over_grpc(policy: str, encoded: list[tuple[bytes, bytes]], progress: Progress) -> dict[str, Any]:
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


def loop_figures(stats: dict[str, Any], total: LatencyRecorder, ue_decisions_per_s: float) -> dict[str, Any]:
    """The figures of a benchmark of the loop; ``total`` is what a decision took from end to end."""
    times = total.summary()
    return {
        "stages_us": {stage: figures for stage, figures in stats["latency_us"].items() if stage != "total"},
        **{f"{name}_us": value for name, value in times.items()},
        "ue_decisions_per_s": round(ue_decisions_per_s),
        "dropped": stats["dropped"],
        "guarded": stats["guarded"],
    }


def bench_replay(bundle: Bundle, trace: ChannelTrace, num_ues: int, slots: int, progress: Progress) -> dict[str, Any]:
    """Time a closed-loop replay in process, a decision every slot; beside it the DU alone, without the xApp."""
    wide = widen(trace, num_ues)
    result = {}
    for name in ("policy", "du_alone"):
        loop = DecisionLoop(bundle, guard_config=_NO_DEADLINE)
        controller = InProcess(loop) if name == "policy" else None
        start = time.perf_counter()
        record, _ = run(
            wide, SmoothBler.load(), DuConfig(), seed=0, controller=controller, max_slots=slots, progress=progress
        )
        elapsed_s = time.perf_counter() - start
        result[name] = {"ue_slots_per_s": round(record.slots.sum() / elapsed_s), "elapsed_s": round(elapsed_s, 3)}
    return result
