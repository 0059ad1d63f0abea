"""The inbox: one waiting indication per cell, the newest; nothing dropped uncounted."""

import threading

import pytest

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.codec import Identity, decode_indication_header
from distila.xapp.e2.inbox import Inbox

NOW_S = 0.0
PATIENCE_S = 30.0


def header(cell_id, sequence=1, version=None):
    envelope = Identity().envelope()
    if version:
        envelope.service_model.version = version
    message = pb.IndicationHeader(envelope=envelope, cell_id=cell_id, sequence=sequence, timestamp_us=sequence)
    return message.SerializeToString()


def put(inbox, cell_id, sequence=1):
    inbox.put(header(cell_id, sequence), f"{cell_id}{sequence}".encode(), received_ns=sequence)


def take_all(inbox):
    taken = []
    while (received := inbox.take(NOW_S)) is not None:
        taken.append(received.message.decode())
    return taken


def test_an_indication_is_handed_over_as_it_came():
    inbox = Inbox()
    put(inbox, "a", 7)
    received = inbox.take(NOW_S)
    assert (received.header.cell_id, received.header.sequence) == ("a", 7)
    assert (received.message, received.received_ns) == (b"a7", 7)
    assert inbox.take(NOW_S) is None
    assert not inbox.dropped


def test_a_header_that_the_transport_has_decoded_is_not_decoded_again(monkeypatch):
    inbox, decoded = Inbox(), decode_indication_header(header("a", 7))
    monkeypatch.setattr("distila.xapp.e2.inbox.decode_indication_header", None)
    inbox.put_decoded(decoded, b"a7", 7)
    assert inbox.take(NOW_S).header is decoded


def test_of_a_cell_the_newest_waits_and_the_others_are_counted():
    inbox = Inbox()
    for sequence in (1, 2, 3):
        put(inbox, "a", sequence)
    put(inbox, "b")
    assert take_all(inbox) == ["a3", "b1"]
    assert inbox.dropped == {"superseded": 2}


def test_an_older_indication_does_not_replace_a_newer_one():
    inbox = Inbox()
    put(inbox, "a", 2)
    put(inbox, "a", 1)
    assert take_all(inbox) == ["a2"]
    assert inbox.dropped.total() == 1


def test_cells_are_served_in_turn_however_often_one_of_them_reports():
    inbox = Inbox()
    put(inbox, "a", 1)
    put(inbox, "b", 1)
    served = []
    for sequence in range(2, 8):
        put(inbox, "a", sequence)  # between any two decisions
        served.append(inbox.take(NOW_S).message.decode()[0])
        put(inbox, "b", sequence)
    assert "".join(served) == "ababab"


def test_more_cells_than_the_bound_are_rejected_and_counted_but_known_ones_renewed():
    inbox = Inbox(max_cells=2)
    for cell_id in ("a", "b", "c"):
        put(inbox, cell_id)
    put(inbox, "a", 2)
    assert take_all(inbox) == ["a2", "b1"]
    assert inbox.dropped == {"too_many_cells": 1, "superseded": 1}
    put(inbox, "c", 2)
    assert take_all(inbox) == ["c2"], "once there is room, the cell is served"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff", "malformed_header"),
        (header(""), "no_cell_id"),
        (header("a", version="2.0"), "service_model"),
        (header("a" * 200_000), "oversized"),
    ],
)
def test_a_header_that_cannot_be_used_is_counted_and_not_kept(data, reason):
    inbox = Inbox()
    inbox.put(data, b"", 0)
    assert inbox.take(NOW_S) is None
    assert inbox.dropped == {reason: 1}


def test_what_waits_when_the_inbox_is_closed_can_still_be_taken():
    inbox = Inbox()
    put(inbox, "a")
    inbox.close()
    assert not inbox.closed
    assert inbox.take(PATIENCE_S).message == b"a1"
    assert inbox.closed
    assert inbox.take(PATIENCE_S) is None, "at once, not after the time-out"


def test_closing_wakes_a_waiting_consumer():
    inbox, taken = Inbox(), []
    consumer = threading.Thread(target=lambda: taken.append(inbox.take(10 * PATIENCE_S)))
    consumer.start()
    inbox.close()
    consumer.join(PATIENCE_S)
    assert not consumer.is_alive()
    assert taken == [None]


def test_an_indication_wakes_a_waiting_consumer():
    inbox, taken = Inbox(), []
    consumer = threading.Thread(target=lambda: taken.append(inbox.take(10 * PATIENCE_S).message))
    consumer.start()
    put(inbox, "a", 5)
    consumer.join(PATIENCE_S)
    assert taken == [b"a5"]


def test_in_a_burst_the_last_is_always_delivered_and_every_one_is_accounted_for():
    inbox, count, cells = Inbox(), 5000, ("a", "b")
    taken = {cell_id: [] for cell_id in cells}

    def consume():
        while not inbox.closed:
            received = inbox.take(PATIENCE_S)
            if received is not None:
                text = received.message.decode()
                taken[text[0]].append(int(text[1:]))

    consumer = threading.Thread(target=consume)
    consumer.start()
    for sequence in range(1, count + 1):
        for cell_id in cells:
            put(inbox, cell_id, sequence)
    inbox.close()
    consumer.join(PATIENCE_S)
    assert not consumer.is_alive()
    for sequences in taken.values():
        assert sequences[-1] == count
        assert sequences == sorted(set(sequences)), "in order, none twice"
    assert sum(map(len, taken.values())) + inbox.dropped["superseded"] == count * len(cells)
    assert set(inbox.dropped) <= {"superseded"}
