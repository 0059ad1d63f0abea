"""Load for benchmarks and simulations: a trace with more UEs, and the indications of a cell with that many."""

import numpy as np

from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.trace import ChannelTrace, TraceMeta
from distila.xapp.e2.codec import Identity, encode_indication
from distila.xapp.nr.bler import SmoothBler


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
