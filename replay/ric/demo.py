"""`distila ric-demo`: the xApp in a process of its own on a RIC of stand-ins, step by step.

A DU replays the bundled trace in real time behind the E2 termination, with a report every 10 ms. Meanwhile the xApp
gets A1 policies, a new policy bundle, a damaged one, a wrong configuration and SIGTERM. Each step says what was
observed and whether it is right; what the RIC observes counts, not what the xApp reports of itself.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import httpx
import numpy as np

from distila.replay.bench_load import widen
from distila.replay.closed_loop import run
from distila.replay.du_config import DuConfig
from distila.replay.e2_node import E2Node, Node, RemoteXapp
from distila.replay.ric.ric import MEID, Ric
from distila.replay.trace import ChannelTrace, bundled_trace
from distila.xapp.e2.rmr import RmrPort
from distila.xapp.errors import InputError
from distila.xapp.files import write_text
from distila.xapp.kpi.report import MCS, NATIVE, Decisions, KpiReport
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.platform_config import RicConfig
from distila.xapp.policy.bundle import BUNDLES, DEFAULT_POLICY, GRAPH_FILE, load_bundle, write_bundle
from distila.xapp.progress import Progress, no_progress

_UES: Final = 20
_PERIOD_SLOTS: Final = 20
_ROUNDS: Final = 10
_PATIENCE_S: Final = 20.0
_WATCH_S: Final = 0.4
_A1_MAX_MCS: Final = 6
_POLICY_TYPE: Final = RicConfig().a1_policy_type or 0


@dataclass
class Step:
    """One step: what was observed, and whether it is right; None: it could not be tried."""

    name: str
    seen: str
    ok: bool | None


@dataclass
class _Seen:
    """Decisions that arrived since the latest call of `watch`."""

    decisions: int = 0
    highest_mcs: int = -1
    native: int = 0
    digests: Counter[str] = field(default_factory=Counter)


class _ObservedXapp(RemoteXapp):
    """Passes decisions on to the DU, and keeps a summary of them."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, lockstep=False)
        self._seen = _Seen()
        self._lock = threading.Lock()
        self.over = threading.Event()

    def exchange(self, report: KpiReport | None) -> Iterator[Decisions]:
        """See `RemoteXapp`; ends the replay once it is over."""
        if self.over.is_set():
            raise _OverError
        arrived: Iterable[Decisions] = super().exchange(report)
        for decisions in arrived:
            with self._lock:
                absolute = decisions.value[decisions.kind == MCS]
                self._seen.decisions += len(decisions.kind)
                self._seen.highest_mcs = max(self._seen.highest_mcs, int(absolute.max(initial=-1)))
                self._seen.native += int((decisions.kind == NATIVE).sum())
                self._seen.digests.update(digest for _, digest in decisions.arms)
            yield decisions

    def watch(self, seconds: float = _WATCH_S) -> _Seen:
        """The decisions of the next while, without those that are under way already."""
        time.sleep(_WATCH_S / 2)
        self._take()
        time.sleep(seconds)
        return self._take()

    def _take(self) -> _Seen:
        with self._lock:
            seen, self._seen = self._seen, _Seen()
        return seen


class _OverError(Exception):
    """The demonstration is over; this is no error."""


def has_rmr() -> bool:
    """Whether librmr can be loaded."""
    try:
        RmrPort(1)
    except InputError:
        return False
    return True


def ric_demo(folder: Path, rmr: bool, progress: Progress = no_progress) -> list[Step]:
    """Run all steps.

    Args:
        folder: empty directory for route table, configuration, bundles and the xApp's log.
        rmr: True: over RMR with the whole platform; False: over gRPC with the parts that need no RMR.
        progress: called with steps done and in all.

    Returns:
        The steps, in order.

    Raises:
        InputError: something is not installed.
    """
    steps: list[Step] = []

    def done(name: str, seen: str, ok: bool | None) -> None:
        steps.append(Step(name, seen, ok))
        progress(len(steps), 13)

    first, second = relabelled(BUNDLES.find(DEFAULT_POLICY), folder)
    link = folder / "policy"
    link.symlink_to(first.name)
    with Ric(folder, rmr=rmr) as ric:
        node: Node
        grpc_node: E2Node | None = None
        sections: dict[str, object] = {"policy": str(link)}
        if ric.e2term is not None:
            node = ric.e2term
        else:
            node = grpc_node = E2Node()
            sections["e2"] = {"transport": "grpc", "endpoint": grpc_node.address}
        config = ric.write_config(**sections)
        observed = _ObservedXapp(node)
        with _xapp(config, ric, folder / "xapp.log") as xapp, _replaying(observed, node):
            _steps(ric, xapp, observed, config, (link, first, second), done)
        if grpc_node is not None:
            grpc_node.end(0)
    return steps


def _steps(
    ric: Ric,
    xapp: "_Xapp",
    observed: _ObservedXapp,
    config: Path,
    policies: tuple[Path, Path, Path],
    done: Callable[[str, str, bool | None], None],
) -> None:
    link, first, second = policies
    url = f"http://127.0.0.1:{ric.xapp_http_port}/ric/v1"
    needs_rmr = "needs librmr"

    registered = _eventually(lambda: bool(ric.appmgr.registered))
    body = next(iter(ric.appmgr.registered.values()), {})
    done("registered", f"{body.get('appName')} at {body.get('rmrEndpoint')}", registered)

    if ric.e2term is None:
        done("subscribed", needs_rmr, None)
    else:
        subscribed = _eventually(lambda: ric.e2term is not None and ric.e2term.has_subscriber)
        done("subscribed", f"{MEID}, instance {ric.e2term.instance_id}", subscribed)

    ready = _eventually(lambda: _get(f"{url}/health/ready") == httpx.codes.OK)
    done("ready", "200 from /ric/v1/health/ready" if ready else "not ready", ready)

    seen = observed.watch(1.0)
    done("decisions", f"{seen.decisions} in 1 s, highest MCS {seen.highest_mcs}", seen.decisions > 0)
    taken = _counter(url, "distila_outcomes_ue_decisions_total", "accepted")
    if ric.e2term is None:
        done("outcomes", f"{taken} UE decisions accepted", taken > 0)
    else:
        acks = _counter(url, "distila_control_requests_total", "acknowledged")
        done("acknowledged", f"{acks} control requests, {taken} UE decisions accepted", acks > 0 and taken > 0)

    if ric.a1 is None:
        done("A1 policies", needs_rmr, None)
    else:
        _a1_steps(ric, observed, done)

    digest = {path: load_bundle(path).digest for path in (first, second)}
    before = _lost(url)
    point(link, second)
    swapped = _eventually(lambda: set(observed.watch(0.1).digests) == {digest[second]})
    lost = _lost(url) - before
    done("hot swap", f"{digest[first][:8]} -> {digest[second][:8]}, {lost} indications lost", swapped and lost == 0)

    damaged = second.with_name("damaged")
    shutil.copytree(second, damaged)
    (damaged / GRAPH_FILE).write_bytes(b"not a graph")
    point(link, damaged)
    alarmed = _eventually(lambda: any(problem == _POLICY_REJECTED for problem, _ in ric.alarms.active))
    seen = observed.watch()
    kept = set(seen.digests) == {digest[second]}
    done(
        "damaged bundle",
        f"rejected, {digest[second][:8]} stays in force, alarm raised" if kept else "accepted",
        kept and alarmed,
    )

    good = config.read_text()
    write_text(config, good + "colour: blue\n")
    rejected = _eventually(lambda: any(problem == _CONFIGURATION_REJECTED for problem, _ in ric.alarms.active))
    write_text(config, good)
    cleared = _eventually(lambda: not any(problem == _CONFIGURATION_REJECTED for problem, _ in ric.alarms.active))
    done("wrong configuration", "rejected, alarm raised and cleared" if rejected else "accepted", rejected and cleared)

    took_s = xapp.terminate()
    observed.over.set()
    unregistered = not ric.appmgr.registered and not ric.submgr.subscriptions
    left = ric.redis.keys("{distila},*")
    text = f"after {took_s:.1f} s" + (
        ", deregistered, unsubscribed" if unregistered else ", still registered or subscribed"
    )
    done("SIGTERM", text, took_s < 5 and unregistered and not left)


def _a1_steps(ric: Ric, observed: _ObservedXapp, done: Callable[[str, str, bool | None], None]) -> None:
    a1 = ric.a1
    if a1 is None:
        return

    def put(body: Mapping[str, object]) -> str:
        a1.status.clear()
        a1.put(_POLICY_TYPE, "demo", json.dumps(body))
        _eventually(lambda: (_POLICY_TYPE, "demo") in a1.status)
        return a1.status.get((_POLICY_TYPE, "demo"), "no answer")

    status = put({"max_mcs": _A1_MAX_MCS})
    seen = observed.watch()
    bounded = 0 <= seen.highest_mcs <= _A1_MAX_MCS
    done(f"A1: max_mcs {_A1_MAX_MCS}", f"{status}, highest MCS {seen.highest_mcs}", status == "OK" and bounded)

    status = put({"max_mcs": "six"})
    seen = observed.watch()
    done("A1: wrong type", f"{status}, highest MCS {seen.highest_mcs}", status == "ERROR" and bounded)

    status = put({"enabled": False})
    seen = observed.watch()
    off = seen.decisions > 0 and seen.native == seen.decisions
    done("A1: off", f"{status}, {seen.native} of {seen.decisions} UE decisions left to the DU", status == "OK" and off)

    a1.delete(_POLICY_TYPE, "demo")
    deleted = _eventually(lambda: a1.status.get((_POLICY_TYPE, "demo")) == "DELETED")
    seen = observed.watch()
    done("A1: deleted", f"DELETED, highest MCS {seen.highest_mcs}", deleted and seen.highest_mcs > _A1_MAX_MCS)


class _Xapp:
    """The xApp's process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def terminate(self) -> float:
        """Send SIGTERM and wait for the end; returns the time it took [s]."""
        start_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - start_s


@contextmanager
def _xapp(config: Path, ric: Ric, log: Path) -> Iterator[_Xapp]:
    command = [sys.executable, "-m", "distila.xapp.cli", "run", "--config", str(config), "--json"]
    with log.open("w") as errors, TemporaryFile("w+") as out:
        process = subprocess.Popen(command, env=ric.environment(), stdout=out, stderr=errors, text=True)
        try:
            yield _Xapp(process)
        finally:
            process.kill()
            process.wait()


@contextmanager
def _replaying(observed: _ObservedXapp, node: Node) -> Iterator[None]:
    """Run the DU in a thread, which starts with the subscription."""
    trace = _longer(widen(ChannelTrace.load(bundled_trace()), _UES), _ROUNDS)

    def replay() -> None:
        while not node.has_subscriber and not observed.over.is_set():
            time.sleep(0.02)
        try:
            run(trace, SmoothBler.load(), DuConfig(period_slots=_PERIOD_SLOTS), seed=1, controller=observed, speed=1.0)
        except (_OverError, InputError):
            # The xApp has ended.
            return

    thread = threading.Thread(target=replay, daemon=True)
    thread.start()
    try:
        yield
    finally:
        observed.over.set()
        thread.join(_PATIENCE_S)


def _longer(trace: ChannelTrace, times: int) -> ChannelTrace:
    """The trace repeated ``times`` times."""
    length = int(trace.num_slots.max())
    rows = [np.arange(trace.offset[ue], trace.offset[ue + 1]) for ue in range(trace.num_ues)]
    index = np.concatenate([np.tile(row, times) for row in rows])
    shift = np.concatenate([np.repeat(np.arange(times) * length, len(row)) for row in rows])
    offset = np.cumsum([0, *(times * len(row) for row in rows)])
    slots = (trace.slots[index] + shift).astype(trace.slots.dtype)
    return ChannelTrace(trace.meta, offset, slots, trace.sinr_db[index], trace.cqi[index])


def relabelled(policy: Path, folder: Path) -> tuple[Path, Path]:
    """Two copies of a policy in ``folder``, with different digests and the same decisions, so that a swap shows."""
    first, second = folder / "policy-1", folder / "policy-2"
    shutil.copytree(policy, first)
    bundle = load_bundle(first)
    manifest = bundle.manifest
    # A document string behind an ONNX model is part of it (protobuf: field 6 of ModelProto).
    graph = (first / GRAPH_FILE).read_bytes() + b"\x32\x04demo"
    write_bundle(
        second,
        graph,
        name=manifest.name,
        version=f"{manifest.version}-relabelled",
        columns=manifest.columns,
        state_size=manifest.state_size,
        actions=manifest.actions,
        mcs_tables=manifest.mcs_tables,
        training=manifest.training,
        golden_report=np.array(manifest.golden.report, np.float32),
        golden_state=np.array(manifest.golden.state, np.float32).reshape(-1, manifest.state_size),
    )
    return first, second


def point(link: Path, target: Path) -> None:
    """Change the target of a link in one step, as Kubernetes does with a mounted ConfigMap."""
    fresh = link.with_name(f".{link.name}")
    fresh.symlink_to(target.name)
    fresh.replace(link)


def _eventually(condition: Callable[[], bool], patience_s: float = _PATIENCE_S) -> bool:
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


def _get(url: str) -> int:
    try:
        return httpx.get(url, timeout=1.0).status_code
    except httpx.HTTPError:
        return 0


def _counter(url: str, name: str, reason: str) -> int:
    """A counter of the xApp's metrics; 0 where it has not counted yet."""
    lines = httpx.get(f"{url}/metrics", timeout=2.0).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name) and f'"{reason}"' in line)


def _lost(url: str) -> int:
    """Indications that the xApp dropped, without those that a newer one replaced: a busy DU sends several at once."""
    lines = httpx.get(f"{url}/metrics", timeout=2.0).text.splitlines()
    dropped = [line for line in lines if line.startswith("distila_dropped_indications_total{")]
    return sum(int(float(line.split()[-1])) for line in dropped if '"superseded"' not in line)


_POLICY_REJECTED: Final = 20132
_CONFIGURATION_REJECTED: Final = 20131
