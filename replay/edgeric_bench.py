"""Speed of EdgeRIC's adapter: stage by stage in process, and over real sockets in real time."""

import gc
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from distila.replay.bench_load import widen
from distila.replay.bench_results import SocketFigures
from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.edgeric_gnb import EdgeRicGnb, telemetry
from distila.replay.trace import ChannelTrace
from distila.xapp.e2.codec import Identity, decode_control, encode_indication
from distila.xapp.e2.edgeric_config import EdgeRicConfig
from distila.xapp.e2.edgeric_telemetry import VALID_TTIS, Telemetry
from distila.xapp.errors import InputError
from distila.xapp.files import write_yaml
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import Bundle
from distila.xapp.progress import Progress
from distila.xapp.stats import LatencyRecorder, Percentiles

STAGES: Final = ("telemetry_to_report", "report_to_octets", "decision_loop", "control_to_overrides")

_WARM_UP: Final = 200
_START_S: Final = 30.0
_NATIVE: Final = MEASURED.index("native_mcs")


def ttis(trace: ChannelTrace, num_ues: int, count: int) -> list[bytes]:
    """Telemetry of ``count`` consecutive TTIs of a cell with ``num_ues`` UEs, each scheduled in every one."""
    wide = widen(trace, num_ues)
    du = Du(wide, SmoothBler.load(), DuConfig(), seed=0)
    sinr_db, cqi, _ = wide.window(0, min(int(wide.num_slots.min()), count))
    encoded = []
    for slot in range(count):
        # A trace that is too short starts again; the TTIs go on.
        row = slot % len(sinr_db)
        du.receive_feedback(slot, sinr_db[row], cqi[row])
        report = du.report(slot)
        dl_mcs = np.nan_to_num(report.measured[:, _NATIVE]).astype(np.int64)
        encoded.append(telemetry(report, slot, dl_mcs).SerializeToString())
        du.transmit(slot, sinr_db[row])
    return encoded


def bench_in_process(bundle: Bundle, encoded: list[bytes], progress: Progress) -> dict[str, Percentiles]:
    """Time each stage from telemetry octets to override octets, on one thread."""
    gnb, loop, identity = Telemetry(EdgeRicConfig()), DecisionLoop(bundle), Identity()
    recorders = {stage: LatencyRecorder() for stage in (*STAGES, "total")}
    clock_ns = time.perf_counter_ns
    gc.collect()
    gc.freeze()
    for done, octets in enumerate(encoded):
        marks = [clock_ns()]
        report = gnb.report(octets)
        marks.append(clock_ns())
        indication = encode_indication(report, identity)
        marks.append(clock_ns())
        control = loop.step(*indication)
        marks.append(clock_ns())
        if control is not None:
            gnb.control(decode_control(*control))
        marks.append(clock_ns())
        if done >= _WARM_UP:
            for stage, start_ns, end_ns in zip(STAGES, marks[:-1], marks[1:], strict=True):
                recorders[stage].add((end_ns - start_ns) / 1000)
            recorders["total"].add((marks[-1] - marks[0]) / 1000)
        if done % 256 == 0:
            progress(done, len(encoded))
    gc.unfreeze()
    return {stage: recorder.summary() for stage, recorder in recorders.items()}


def bench_over_sockets(policy: str, encoded: list[bytes], tti_us: int, progress: Progress) -> SocketFigures:
    """Publish a TTI every ``tti_us`` to an xApp in a process of its own, and time its overrides.

    Raises:
        InputError: the xApp did not start.
    """
    with TemporaryDirectory() as folder:
        addresses = {"metrics": f"ipc://{folder}/metrics", "control": f"ipc://{folder}/control"}
        config = Path(folder) / "distila.yaml"
        write_yaml(config, {"policy": policy, "e2": {"transport": "edgeric", "edgeric": addresses}})
        gnb = EdgeRicGnb(**addresses)
        xapp = subprocess.Popen(
            [sys.executable, "-m", "distila.xapp.cli", "run", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if not gnb.wait_for_controller(_START_S):
                xapp.kill()
                reason = (xapp.communicate()[1].strip().splitlines() or ["it printed no error"])[-1]
                raise InputError(f"the xApp did not start: {reason}")
            return _pace(gnb, encoded, tti_us, progress)
        finally:
            xapp.terminate()
            xapp.communicate()
            gnb.close()


def _pace(gnb: EdgeRicGnb, encoded: list[bytes], tti_us: int, progress: Progress) -> SocketFigures:
    clock_ns, tti_ns = time.perf_counter_ns, 1000 * tti_us
    sent_ns: dict[int, int] = {}
    round_trip = LatencyRecorder()
    in_time = 0
    start_ns = clock_ns()
    for tti, octets in enumerate(encoded):
        sent_ns[tti] = clock_ns()
        gnb.publish(octets)
        due_ns = start_ns + (tti + 1) * tti_ns
        while (left_ns := due_ns - clock_ns()) > 0:
            control = gnb.receive(max(1, left_ns // 1_000_000) if left_ns >= 1_000_000 else 0)
            if control is None:
                continue
            answered = sent_ns.pop(tti - (tti - control.tti_index) % 10_000, None)
            if answered is not None and tti >= _WARM_UP:
                took_ns = clock_ns() - answered
                round_trip.add(took_ns / 1000)
                in_time += took_ns <= VALID_TTIS * tti_ns
        if tti % 256 == 0:
            progress(tti, len(encoded))
    counted = len(encoded) - _WARM_UP
    return SocketFigures(
        round_trip_us=round_trip.summary(),
        in_time=round(in_time / counted, 4),
        too_late=round((round_trip.count - in_time) / counted, 4),
        unanswered=round(1 - round_trip.count / counted, 4),
    )
