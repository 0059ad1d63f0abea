"""Converts EdgeRIC's telemetry to `KpiReport`, and `Decisions` to its MCS overrides; it uses no sockets.

EdgeRIC's messages contain less than the service model. The gaps are filled as follows:

* **Absent fields are zero** on EdgeRIC's wire. A CQI of 0 counts as not measured, and so do PRBs where none was
  scheduled.
* **HARQ feedback has no MCS**, and belongs to transmissions some TTIs before: it is counted for the MCS that the UE was
  last scheduled with ``feedback_delay_ttis`` before. It does not distinguish first transmissions from later ones; all
  are counted.
* **The gNB's own choice** is the MCS that it schedules while no override is in force. A policy that overrides all the
  time would never see a new one, so it is used for ``native_max_age_ttis`` only. After that, an offset (which has no
  meaning without it) is sent as no override, and the gNB shows its choice again.
* **TTIs count to 9999** and wrap or, in newer gNBs, count on. Both are converted to a sequence that does not wrap.
* **No acknowledgement**: the gNB's next TTIs show whether it applied an override (``applied``, ``not_applied``).
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from distila.schemas import edgeric_v1_pb2 as pb
from distila.xapp.e2.codec import Rejected
from distila.xapp.e2.edgeric_config import EdgeRicConfig
from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, MCS, MCS_OFFSET, NACK, NO_UE_ID, Decisions, KpiReport
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS

NO_OVERRIDE: Final = 255
"""The MCS that leaves a UE to the gNB."""

VALID_TTIS: Final = 2
"""TTIs after the one decided on for which the gNB still applies an override; the xApp cannot prolong it."""

_TTI_WRAP: Final = 10_000
_COUNTER_WRAP: Final = 2**32
_FORGET_US: Final = 1_000_000
_KEPT_TTIS: Final = 8
_SLOTS_PER_FRAME: Final = 10
_SFNS: Final = 1024
_MOST_DB: Final = 1000.0
_CQI, _SINR, _BUFFER, _PRBS, _NATIVE = (
    MEASURED.index(name) for name in ("cqi", "sinr_db", "dl_buffer_bytes", "prbs", "native_mcs")
)


@dataclass(slots=True)
class _Ue:
    """Data that is kept of a UE from TTI to TTI. TTIs are unwrapped."""

    scheduled: deque[tuple[int, int]] = field(default_factory=deque)  # (TTI, MCS), oldest first
    total_feedback: int = 0
    native_mcs: int = -1
    native_tti: int = -1
    overrides: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=VALID_TTIS + 1))  # likewise


class Telemetry:
    """One gNB. `report` and `control` may be called from different threads.

    Args:
        config: settings.

    Attributes:
        outcomes: UE decisions by outcome, as far as the telemetry shows it.
        lost: feedback and control messages that could not be used, by reason.
    """

    def __init__(self, config: EdgeRicConfig) -> None:
        self._config = config
        self._max_mcs = MCS_TABLES[config.mcs_table].num_mcs - 1
        self._lock = threading.Lock()
        self._ues: dict[int, _Ue] = {}
        self._latest_raw: int | None = None
        self._latest_us = 0
        self._base = 0
        self._raw_ttis: dict[int, int] = {}
        self.outcomes: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def report(self, data: bytes) -> KpiReport:
        """Make a report of one telemetry message.

        Raises:
            Rejected: reason ``malformed_metrics`` or ``duplicate_tti``.
        """
        try:
            metrics = pb.TtiMetrics.FromString(data)
        except DecodeError as error:
            raise Rejected("malformed_metrics", f"EdgeRIC telemetry: {error}") from None
        with self._lock:
            if metrics.tti_index == self._latest_raw:
                # Its feedback would count twice.
                raise Rejected("duplicate_tti", f"EdgeRIC telemetry: TTI {metrics.tti_index} again")
            return self._report(metrics)

    def _report(self, metrics: pb.TtiMetrics) -> KpiReport:
        tti = self._unwrapped(metrics.tti_index, metrics.timestamp_us)
        rows = list(metrics.ues)
        measured = np.full((len(rows), len(MEASURED)), np.nan)
        total = np.zeros(len(rows))
        entries: list[tuple[int, int, int, int]] = []
        present: dict[int, _Ue] = {}
        for row, reported in enumerate(rows):
            # A UE that is not in the telemetry has left, and its RNTI may come back as another.
            ue = present[reported.rnti] = self._ues.get(reported.rnti) or _Ue()
            mac = reported.mac
            feedback = mac.dl_harq_ack + mac.dl_harq_nack
            if feedback:
                mcs = self._mcs_of_feedback(ue, tti)
                if mcs is None:
                    self.lost["harq_without_mcs"] += feedback
                else:
                    ue.total_feedback += feedback
                    entries.append((row, mcs, mac.dl_harq_ack, mac.dl_harq_nack))
            total[row] = ue.total_feedback
            if mac.dl_prbs and mac.dl_mcs < NUM_MCS:
                self._scheduled(ue, tti, mac.dl_mcs)
                measured[row, _PRBS] = mac.dl_prbs
            if mac.cqi:
                measured[row, _CQI] = mac.cqi
            if self._config.uplink_snr_as_sinr:
                # Values that no codec can encode are clipped to just beyond the valid range, and counted there.
                measured[row, _SINR] = min(max(mac.snr, -_MOST_DB), _MOST_DB)
            measured[row, _BUFFER] = mac.dl_buffer
            if self._native(ue, tti) is not None:
                measured[row, _NATIVE] = ue.native_mcs
        self._ues = present
        harq = np.array(entries, np.int64).reshape(len(entries), 4)
        counts = np.zeros((len(entries), 4))
        counts[:, ACK], counts[:, NACK] = harq[:, 2], harq[:, 3]
        return KpiReport(
            cell_id=self._config.cell_id,
            sequence=tti,
            sfn=tti // _SLOTS_PER_FRAME % _SFNS,
            slot=tti % _SLOTS_PER_FRAME,
            timestamp_us=metrics.timestamp_us,
            period_slots=1,
            rnti=np.array([reported.rnti for reported in rows], np.int64),
            ue_id=np.full(len(rows), NO_UE_ID),
            cqi_table=np.full(len(rows), self._config.cqi_table),
            mcs_table=np.full(len(rows), self._config.mcs_table),
            measured=measured,
            total_first_tx=total,
            harq_ue=harq[:, 0],
            harq_mcs=harq[:, 1],
            harq_counts=counts,
        )

    def control(self, decisions: Decisions) -> bytes | None:
        """The overrides that correspond to the decisions; None where they are too late to be applied."""
        with self._lock:
            latest = (self._latest_raw or 0) + self._base
            raw_tti = self._raw_ttis.get(decisions.answers_sequence)
            if raw_tti is None or latest - decisions.answers_sequence > VALID_TTIS:
                self.lost["control_expired"] += 1
                return None
            message = pb.McsControl(ran_index=self._config.ran_index, tti_index=raw_tti)
            rows = zip(decisions.rnti.tolist(), decisions.kind.tolist(), decisions.value.tolist(), strict=True)
            for rnti, kind, value in rows:
                ue = self._ues.get(rnti)
                mcs = self._override(ue, kind, value, latest)
                message.ue_mcs.add(rnti=rnti, mcs=mcs)
                if ue is not None and mcs != NO_OVERRIDE:
                    ue.overrides.append((decisions.answers_sequence, mcs))
        return message.SerializeToString()

    def _override(self, ue: _Ue | None, kind: int, value: int, tti: int) -> int:
        if ue is None:
            self.outcomes["unknown_ue"] += 1
            return NO_OVERRIDE
        if kind == MCS:
            if 0 <= value <= self._max_mcs:
                return value
            self.outcomes["mcs_out_of_range"] += 1
        elif kind == MCS_OFFSET:
            native = self._native(ue, tti)
            if native is not None:
                return min(max(native + value, 0), self._max_mcs)
            self.outcomes["offset_without_native"] += 1
        return NO_OVERRIDE

    def _unwrapped(self, raw: int, timestamp_us: int) -> int:
        """The TTI in a count that does not wrap where the gNB's does, and restarts where the gNB restarts."""
        latest = self._latest_raw
        if timestamp_us - self._latest_us > _FORGET_US:
            # A UE seen after such a pause is another one, or was not scheduled for a long time.
            self._ues.clear()
        if latest is not None and raw < latest:
            wrap = _TTI_WRAP if latest < _TTI_WRAP else _COUNTER_WRAP
            if (raw - latest) % wrap < wrap // 2:
                self._base += wrap
            else:
                self._base = 0
                self._ues.clear()
                self._raw_ttis.clear()
        self._latest_raw, self._latest_us = raw, timestamp_us
        tti = self._base + raw
        self._raw_ttis[tti] = raw
        if len(self._raw_ttis) > _KEPT_TTIS:
            del self._raw_ttis[next(iter(self._raw_ttis))]
        return tti

    def _scheduled(self, ue: _Ue, tti: int, mcs: int) -> None:
        """Record the MCS that the UE was scheduled with, and whether the gNB or an override chose it."""
        ue.scheduled.append((tti, mcs))
        self._forget_scheduled(ue, tti)
        in_force = [override for decided, override in ue.overrides if decided >= tti - VALID_TTIS]
        if in_force:
            self.outcomes["applied" if mcs in in_force else "not_applied"] += 1
        else:
            ue.native_mcs, ue.native_tti = mcs, tti

    def _native(self, ue: _Ue, tti: int) -> int | None:
        """The gNB's own choice when it was last seen; None where it is unknown or too old."""
        fresh = ue.native_tti >= 0 and tti - ue.native_tti <= self._config.native_max_age_ttis
        return ue.native_mcs if fresh else None

    def _mcs_of_feedback(self, ue: _Ue, tti: int) -> int | None:
        """MCS of the transmission that feedback in this TTI belongs to; None where it is unknown."""
        self._forget_scheduled(ue, tti)
        if ue.scheduled and ue.scheduled[0][0] <= tti - self._config.feedback_delay_ttis:
            return ue.scheduled[0][1]
        return None

    def _forget_scheduled(self, ue: _Ue, tti: int) -> None:
        """Keep only transmissions that feedback in this TTI or a later one can belong to."""
        while len(ue.scheduled) > 1 and ue.scheduled[1][0] <= tti - self._config.feedback_delay_ttis:
            ue.scheduled.popleft()
