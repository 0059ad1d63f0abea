"""Episodes of a benchmark by hand."""

import numpy as np

from distila.training.benchmark.episode import Episode


def an_episode(goodput, resource=1e4, rows=None, **given):
    """An episode with this goodput on each link; every link has a row of its own unless told otherwise."""
    goodput = np.asarray(goodput, np.float64)
    count, blank = len(goodput), np.zeros(len(goodput))
    resource = blank + resource
    values = {
        "bits": goodput * resource,
        "goodput": goodput,
        "resource": resource,
        "first_ack": blank + 90,
        "first_nack": blank + 10,
        "first_dtx": blank,
        "residual": blank,
        "retransmissions": blank,
        "mean_mcs": blank + 12,
        "speed_kmh": blank + 3,
        "snr_db": blank + 15,
        "fading_row": np.arange(count, dtype=np.float64) if rows is None else np.asarray(rows, np.float64),
        "file_delay_ms": np.empty(0),
        "block_delay_ms": np.array([0.5, 4.5]),
        "delayed_blocks": np.array([90.0, 10.0]),
    }
    scalars = {"slot_us": 500.0, "period_slots": 1, "delay_slots": 0, "bursty_share": 0.0, "elapsed_s": 1.25}
    scalars |= {"mcs_table": 1, "decided_share": 1.0, "slots": 1000, "stalled_slots": 0}
    return Episode(**values | scalars | given)
