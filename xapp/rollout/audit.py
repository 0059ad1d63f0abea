"""The audit log: who did what and why, each entry chained to the one before by its hash.

An entry that was changed, left out, added or moved breaks the chain, and a log whose end was cut off does not fit the
state, which holds the hash of the latest entry. Verdicts are pure functions of what the entries record, so `replayed`
can compute every one of them again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from distila.xapp.errors import InputError, first_error
from distila.xapp.files import read_json
from distila.xapp.result_file import ResultFile, read_result
from distila.xapp.rollout.machine import Event, State
from distila.xapp.rollout.plan import Plan
from distila.xapp.rollout.verdict import Evaluation, Verdict, verdict_on

GENESIS: Final = "0" * 64

_Model = TypeVar("_Model", bound=BaseModel)


class Start(BaseModel):
    """What the entry of a start records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: Plan
    digests: dict[str, str] = Field(description="sha256 of each policy of the plan; empty: no override")


Detail = Start | Evaluation | None
"""What an entry records beyond who, what and why: of a start, of an evaluation, of nothing else."""


class Entry(BaseModel):
    """One entry of the audit log: one commit to the store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int = Field(description="number of the entry, from 1; the version of the state that was committed")
    at: float = Field(description="wall-clock time [s since the Unix epoch]; for people, nothing depends on it")
    run: str = Field(description="the rollout")
    who: str = Field(description="operator, or the replica that evaluated")
    what: Event
    why: str
    status: str = Field(description="status of the rollout afterwards")
    stage: int = Field(description="stage of the rollout afterwards")
    detail: dict[str, JsonValue] = Field(
        description="a Start or an Evaluation as JSON, or nothing; kept word for word, because the hash covers it"
    )
    previous: str = Field(description="hash of the entry before")
    hash: str = Field(description="sha256 of all fields but this one, as JSON with sorted keys")

    @cached_property
    def start(self) -> Start | None:
        """What the entry of a start records.

        Raises:
            InputError: it is not readable in this version.
        """
        return self._read(Start) if self.what == "start" else None

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """What the entry of an evaluation records, whatever came of it; None for other entries.

        Raises:
            InputError: it is not readable in this version.
        """
        return self._read(Evaluation) if "verdict" in self.detail else None

    def _read(self, model: type[_Model]) -> _Model:
        try:
            return model.model_validate(self.detail)
        except ValidationError as error:
            raise InputError(f"audit log, entry {self.seq}: detail: {first_error(error)}") from None

    def computed_hash(self) -> str:
        """The hash that the content of the entry has."""
        return _hash(self.model_dump(mode="json", exclude={"hash"}))

    def to_json(self) -> str:
        """The entry as it is stored."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"))


def chained(state: State, head: str, *, at: float, who: str, what: Event, detail: Detail) -> Entry:
    """The entry of a commit.

    Args:
        state: after it; its version is the number of the entry.
        head: hash of the entry before, empty for the first.
        at: wall-clock time, Unix epoch [s]; for people, nothing depends on it.
        who: operator, or the replica that evaluated.
        what: see `machine.Event`.
        detail: what a start or an evaluation records.
    """
    why = state.reason
    if what == "evaluate":
        why = detail.verdict.why if isinstance(detail, Evaluation) else ""
    content: dict[str, JsonValue] = {
        "seq": state.version,
        "at": round(at, 3),
        "run": state.run,
        "who": who,
        "what": what,
        "why": why,
        "status": state.status,
        "stage": state.stage,
        "detail": {} if detail is None else detail.model_dump(mode="json"),
        "previous": head or GENESIS,
    }
    return Entry.model_validate({**content, "hash": _hash(content)})


def _hash(content: Mapping[str, JsonValue]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_entries(entries: Sequence[Any]) -> list[Entry]:
    """The entries of a whole log, oldest first, from JSON objects.

    Raises:
        InputError: one of them is no entry.
    """
    parsed = []
    for number, entry in enumerate(entries, start=1):
        try:
            parsed.append(Entry.model_validate(entry))
        except ValidationError as error:
            raise InputError(f"audit log, entry {number}: altered: not an audit entry: {first_error(error)}") from None
    return parsed


def verify(entries: Sequence[Entry], head: str | None = None) -> None:
    """Check the chain.

    Args:
        entries: the whole log, oldest first.
        head: hash of the latest entry as the state has it; None: not known.

    Raises:
        InputError: names the first entry that is not what was written.
    """
    previous = GENESIS
    for number, entry in enumerate(entries, start=1):
        if entry.seq != number or entry.previous != previous:
            raise InputError(f"audit log, entry {number}: altered: does not follow the entry before")
        if entry.computed_hash() != entry.hash:
            raise InputError(f"audit log, entry {number}: altered: its hash is not that of its content")
        previous = entry.hash
    if head is not None and previous != (head or GENESIS):
        raise InputError(f"audit log: altered: ends at entry {len(entries)}, which is not the latest of the state")


@dataclass(frozen=True)
class Replayed:
    """One verdict of a log, as recorded and as computed again.

    Attributes:
        seq: number of the entry.
        recorded: the verdict in the log.
        now: the verdict of this version on the same record.
    """

    seq: int
    recorded: Verdict
    now: Verdict

    @property
    def same(self) -> bool:
        """Whether both come to the same result."""
        return self.now.same_as(self.recorded)


def replayed(entries: Sequence[Entry]) -> list[Replayed]:
    """Compute every verdict of a log again.

    Raises:
        InputError: see `verify`.
    """
    verify(entries)
    plan: Plan | None = None
    verdicts = []
    for entry in entries:
        if entry.start is not None:
            plan = entry.start.plan
        if entry.evaluation is not None and plan is not None:
            now = verdict_on(plan, entry.evaluation.record)
            verdicts.append(Replayed(entry.seq, entry.evaluation.verdict, now))
    return verdicts


class AuditFile(ResultFile):
    """``audit.json``: the audit log of a rollout, whole."""

    kind: Literal["rollout-audit"] = "rollout-audit"
    version: Literal[1] = 1
    entries: list[Entry] = Field(description="the whole log, oldest entry first")


def read_log(path: Path) -> list[Entry]:
    """The entries of an audit log: a file `AuditFile`, or what `distila rollout audit --json` or the HTTP API prints.

    Raises:
        InputError: the file cannot be read, or is no audit log.
    """
    found = read_json(path)
    entries = found.get("entries") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise InputError(f"{path}: no audit log, expected a JSON object with a list `entries`")
    if "kind" in found:
        # What was printed has no kind.
        return read_result(AuditFile, path).entries
    return parse_entries(entries)
