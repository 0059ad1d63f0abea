"""The audit log: whatever is changed in it shows."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.xapp.errors import InputError
from distila.xapp.files import write_json
from distila.xapp.rollout.audit import AuditFile, parse_entries, read_log, replayed, verify
from distila.xapp.rollout.controller import carry_out
from distila.xapp.rollout.machine import Command
from distila.xapp.rollout.plan import load_plan
from distila.xapp.rollout.store import SqliteStore

OLD_STORE = Path(__file__).with_name("data") / "store-before-models.json"
"""The tables of a rollout's SQLite store, as the version before `Entry` and `Evaluation` wrote them."""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("audit") / "store.sqlite")
    for action in ("start", "pause", "resume", "promote", "abort"):
        plan = load_plan("challenger") if action == "start" else None
        state, _ = carry_out(store, Command(action=action, who="ana", why=f"because of {action}", plan=plan))
    entries = store.audit()
    store.close()
    return entries, state.audit_head


def test_as_it_was_written_it_is_intact(log):
    entries, head = log
    verify(entries, head)
    verify([])
    assert [entry.what for entry in entries] == ["start", "pause", "resume", "advance", "abort"]
    assert entries[1].why == "because of pause"


CHANGES = {
    "who": "eve",
    "why": "",
    "what": "evaluate",
    "status": "promoted",
    "at": 0.0,
    "stage": 2,
    "detail": {"x": 1},
    "run": "r",
    "hash": "0" * 64,
    "previous": "0" * 63 + "1",
    "seq": 9,
}


@given(st.integers(0, 4), st.sampled_from(sorted(CHANGES)))
def test_a_changed_field_is_found(log, number, name):
    entries = [entry.model_dump(mode="json") for entry in log[0]]
    entries[number][name] = CHANGES[name]
    with pytest.raises(InputError, match=rf"entry {number + 1}: altered"):
        verify(parse_entries(entries), log[1])


@given(st.integers(0, 4), st.sampled_from(["drop", "double", "swap"]))
def test_an_entry_left_out_added_or_moved_is_found(log, number, how):
    entries = list(log[0])
    if how == "drop":
        del entries[number]
    elif how == "double":
        entries.insert(number, entries[number])
    else:
        entries[number], entries[number - 1] = entries[number - 1], entries[number]
    with pytest.raises(InputError, match="altered"):
        verify(entries, log[1])


def test_a_store_written_before_there_were_models_is_read_and_its_chain_still_holds(tmp_path):
    rows = json.loads(OLD_STORE.read_text())
    store = SqliteStore(tmp_path / "old.sqlite")
    for table, content in rows.items():
        for row in content:
            store._db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    state, entries = store.load(), store.audit()
    assert (state.status, state.withdrawn) == ("rolled_back", ("new",))
    assert [entry.what for entry in entries] == ["start", "advance", "roll_back"]
    verify(entries, state.audit_head)
    assert [entry.to_json() for entry in entries] == [body for _, body in rows["audit"]], "octet by octet"
    verdicts = replayed(entries)
    assert len(verdicts) == 2
    assert all(one.same for one in verdicts)
    (exposed,) = store.published(state.run).values()
    assert exposed == entries[-1].evaluation.record.exposed
    saved = tmp_path / "audit.json"
    saved.write_text(json.dumps({"entries": [json.loads(body) for _, body in rows["audit"]]}))
    verify(read_log(saved), state.audit_head)
    write_json(saved, AuditFile(entries=entries))
    assert read_log(saved) == entries


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "codec can't decode"),
        (b'{"entries": [', "not JSON"),
        (b"[1]", "no audit log, expected a JSON object with a list `entries`"),
        (b'{"kind": "rollout-audit", "version": 2, "entries": []}', "version 2 of the result file 'rollout-audit'"),
        (b'{"kind": "closed-loop", "version": 1, "entries": []}', "expected kind 'rollout-audit'"),
    ],
)
def test_a_file_that_is_no_audit_log_is_one_line(tmp_path, content, says):
    path = tmp_path / "audit.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_log(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_log_whose_end_was_cut_off_does_not_fit_the_state(log):
    verify(log[0][:3])
    with pytest.raises(InputError, match="ends at entry 3, which is not the latest of the state"):
        verify(log[0][:3], log[1])
