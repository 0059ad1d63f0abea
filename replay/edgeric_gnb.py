"""A stand-in for an srsRAN gNB with EdgeRIC: publishes telemetry and applies MCS overrides, over real ZeroMQ sockets.

`EdgeRicGnb` is the gNB's end of the wire. `OverEdgeRic` drives it from a replay: the DU's reports go out as telemetry,
without the fields that EdgeRIC's messages do not have, and the gNB applies the overrides that come back while they are
at most two TTIs old.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from distila.schemas import edgeric_v1_pb2 as pb
from distila.xapp.e2.edgeric_telemetry import NO_OVERRIDE, VALID_TTIS
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, DTX, MCS, NACK, NATIVE, NO_UE_ID, Decisions, KpiReport
from distila.xapp.nr.arrays import IntArray

_TTI_WRAP: Final = 10_000
_SUBSCRIPTION_S: Final = 0.1
_CQI, _BUFFER, _PRBS, _NATIVE = (MEASURED.index(name) for name in ("cqi", "dl_buffer_bytes", "prbs", "native_mcs"))


class EdgeRicGnb:
    """The gNB's sockets.

    Args:
        metrics: address to publish telemetry at.
        control: address where the controller publishes its overrides.
    """

    def __init__(self, metrics: str, control: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._metrics = self._context.socket(zmq.PUB)
        self._control = self._context.socket(zmq.SUB)
        for socket in (self._metrics, self._control):
            socket.setsockopt(zmq.CONFLATE, 1)
            socket.setsockopt(zmq.LINGER, 0)
        self._control.setsockopt(zmq.SUBSCRIBE, b"")
        self._monitors = [s.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) for s in (self._metrics, self._control)]
        self._metrics.bind(metrics)
        self._control.connect(control)

    def wait_for_controller(self, timeout_s: float) -> bool:
        """Whether a controller has connected both ways in time. ZeroMQ drops what is published before that."""
        deadline = time.monotonic() + timeout_s
        for monitor in self._monitors:
            if not monitor.poll(max(0, int(1000 * (deadline - time.monotonic())))):
                return False
            recv_monitor_message(monitor)
        # The subscription itself follows the handshake.
        time.sleep(_SUBSCRIPTION_S)
        return True

    def publish(self, telemetry: bytes) -> None:
        """Send a TtiMetrics; it is lost if no controller is connected."""
        self._metrics.send(telemetry)

    def receive(self, timeout_ms: int) -> pb.McsControl | None:
        """The newest McsControl, None if none arrives in time."""
        if not self._control.poll(timeout_ms):
            return None
        return pb.McsControl.FromString(self._control.recv())

    def close(self) -> None:
        """Close all sockets."""
        for socket in (self._metrics, self._control):
            socket.disable_monitor()
            socket.close()
        self._context.destroy(linger=0)


def telemetry(report: KpiReport, tti: int, dl_mcs: IntArray) -> pb.TtiMetrics:
    """A DU's report as a message of EdgeRIC.

    Args:
        report: the DU's report; HARQ counts lose their MCS, and the DU's own choice is not sent.
        tti: sent modulo 10000.
        dl_mcs: [ue], MCS of each UE in this TTI.
    """
    message = pb.TtiMetrics(tti_index=tti % _TTI_WRAP, timestamp_us=report.timestamp_us)
    measured = np.nan_to_num(report.measured)
    for row, rnti in enumerate(report.rnti.tolist()):
        mac = pb.MacUeMetrics(
            cqi=int(measured[row, _CQI]),
            dl_buffer=int(measured[row, _BUFFER]),
            dl_prbs=int(measured[row, _PRBS]),
            dl_mcs=int(dl_mcs[row]),
            dl_harq_ack=int(report.harq_sums[row, ACK]),
            dl_harq_nack=int(report.harq_sums[row, NACK] + report.harq_sums[row, DTX]),
        )
        message.ues.add(rnti=rnti, mac=mac)
    return message


class OverEdgeRic:
    """The xApp at the other end of EdgeRIC's wire, as a `distila.replay.closed_loop.Controller`, in lockstep.

    Args:
        gnb: the sockets.
        answer_timeout_s: after this a TTI counts as ``unanswered``.
    """

    def __init__(self, gnb: EdgeRicGnb, answer_timeout_s: float = 5.0) -> None:
        self._gnb = gnb
        self._answer_timeout_s = answer_timeout_s
        self._overrides: deque[tuple[int, dict[int, int]]] = deque(maxlen=VALID_TTIS + 1)
        self.unanswered = 0

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `Controller`: one TTI out, the answer to it back."""
        if report is None:
            return
        tti = report.sequence
        # The MCS of the slot before this report: a gNB knows no later one when it reports.
        sent = self._in_force(tti - 1)
        native = np.nan_to_num(report.measured[:, _NATIVE]).astype(np.int64).tolist()
        dl_mcs = [sent.get(rnti, own) for rnti, own in zip(report.rnti.tolist(), native, strict=True)]
        wire = telemetry(report, tti, np.array(dl_mcs, np.int64)).SerializeToString()
        self._gnb.publish(wire)
        control = self._gnb.receive(int(1000 * self._answer_timeout_s))
        if control is None or control.tti_index != tti % _TTI_WRAP:
            self.unanswered += 1
        else:
            yield self._taken(control, report)

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """See `Controller`; EdgeRIC has no message for outcomes."""

    def _in_force(self, tti: int) -> dict[int, int]:
        """MCS by RNTI of the newest overrides that the gNB still applies in this TTI."""
        for decided, overrides in reversed(self._overrides):
            if 0 <= tti - decided <= VALID_TTIS:
                return overrides
        return {}

    def _taken(self, control: pb.McsControl, report: KpiReport) -> Decisions:
        overrides = {ue.rnti: ue.mcs for ue in control.ue_mcs if ue.mcs != NO_OVERRIDE}
        self._overrides.append((report.sequence, overrides))
        value = np.array([overrides.get(rnti, 0) for rnti in report.rnti.tolist()], np.int64)
        overridden = np.array([rnti in overrides for rnti in report.rnti.tolist()])
        return Decisions(
            cell_id=report.cell_id,
            answers_sequence=report.sequence,
            sfn=report.sfn,
            slot=report.slot,
            timestamp_us=report.timestamp_us,
            valid_for_slots=VALID_TTIS + 1,
            rnti=report.rnti,
            ue_id=np.full(report.num_ues, NO_UE_ID),
            kind=np.where(overridden, MCS, NATIVE),
            value=value,
        )
