"""The audit log: who did what and why, each entry chained to the one before by its hash.

An entry that was changed, left out, added or moved breaks the chain, and a log whose end was cut off does not fit the
state, which holds the hash of the latest entry. And because verdicts are pure functions of what the entry records,
`replayed` can work out every one of them again.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from distila.xapp.errors import InputError
from distila.xapp.rollout.machine import State
from distila.xapp.rollout.plan import Plan, parse_plan
from distila.xapp.rollout.verdict import Record, judge

GENESIS: Final = "0" * 64
_FIELDS: Final = ("seq", "at", "run", "who", "what", "why", "status", "stage", "detail", "previous")


def chained(state: State, head: str, *, at: float, who: str, what: str, detail: dict[str, Any]) -> dict[str, Any]:
    """The entry of a commit.

    Args:
        state: after it; its version is the number of the entry.
        head: hash of the entry before, empty for the first.
        at: wall-clock time, Unix epoch [s]; for people, nothing depends on it.
        who: operator, or the replica that evaluated.
        what: see `machine.What`.
        detail: plan of a start, record and verdict of an evaluation.
    """
    entry = {
        "seq": state.version,
        "at": round(at, 3),
        "run": state.run,
        "who": who,
        "what": what,
        "why": state.reason if what != "evaluate" else detail.get("verdict", {}).get("why", ""),
        "status": state.status,
        "stage": state.stage,
        "detail": detail,
        "previous": head or GENESIS,
    }
    return {**entry, "hash": _hash(entry)}


def _hash(entry: dict[str, Any]) -> str:
    text = json.dumps({name: entry[name] for name in _FIELDS}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def verify(entries: Sequence[dict[str, Any]], head: str | None = None) -> None:
    """Check the chain.

    Args:
        entries: the whole log, oldest first.
        head: hash of the latest entry as the state has it; None: not known.

    Raises:
        InputError: the first entry that is not what was written.
    """
    previous = GENESIS
    for number, entry in enumerate(entries, start=1):
        if set(entry) != {*_FIELDS, "hash"}:
            raise InputError(f"audit log, entry {number}: altered: fields are not those of an entry")
        if entry["seq"] != number or entry["previous"] != previous:
            raise InputError(f"audit log, entry {number}: altered: does not follow the entry before")
        if _hash(entry) != entry["hash"]:
            raise InputError(f"audit log, entry {number}: altered: its hash is not that of its content")
        previous = entry["hash"]
    if head is not None and previous != (head or GENESIS):
        raise InputError(f"audit log: altered: ends at entry {len(entries)}, which is not the latest of the state")


def replayed(entries: Sequence[dict[str, Any]]) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Work out every verdict of a log again: (number of the entry, verdict as recorded, verdict now).

    Raises:
        InputError: see `verify`.
    """
    verify(entries)
    plan: Plan | None = None
    verdicts = []
    for entry in entries:
        detail = entry["detail"]
        if entry["what"] == "start":
            plan = parse_plan(detail["plan"], f"audit log, entry {entry['seq']}")
        if "record" in detail and plan is not None:
            now = judge(plan, Record.from_json(detail["record"])).to_json()
            verdicts.append((entry["seq"], detail["verdict"], json.loads(json.dumps(now))))
    return verdicts


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of an audit log as `distila rollout audit --json` or the HTTP API print it.

    Raises:
        InputError: the file cannot be read, or is no audit log.
    """
    try:
        entries = json.loads(path.read_text())["entries"]
        if not all(isinstance(entry, dict) for entry in entries):
            raise TypeError
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: no audit log, expected JSON with a list `entries`") from None
    return list(entries)
