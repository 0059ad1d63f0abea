"""Alarms at the platform's alarm manager, over its REST interface.

An alarm is raised once and cleared once, however often its cause is reported in between. While the manager cannot be
reached the latest state of each alarm is kept, and it is sent later. The manager ignores alarms without a definition,
so the definitions are sent first.
"""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from distila.xapp.errors import one_line
from distila.xapp.ric.worker import Backoff, Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Definition:
    ident: int
    text: str
    severity: str
    instructions: str


class Alarm(Enum):
    """The alarms of the xApp."""

    CONFIGURATION_REJECTED = _Definition(
        20131, "CONFIGURATION REJECTED", "MINOR", "Correct the configuration; the previous one stays in force."
    )
    POLICY_REJECTED = _Definition(
        20132,
        "POLICY BUNDLE REJECTED",
        "MAJOR",
        "Check the bundle with `distila policy check`; the previous one stays in force.",
    )
    NO_TELEMETRY = _Definition(
        20133, "NO E2 TELEMETRY", "MAJOR", "Check E2 node, E2 termination and subscription manager."
    )
    ROLLOUT_ROLLED_BACK = _Definition(
        20134, "POLICY ROLLED BACK", "WARNING", "See the audit log of the rollout for the guardrail that tripped."
    )
    ROLLOUT_HELD = _Definition(20135, "ROLLOUT HELD", "WARNING", "`distila rollout status` shows why.")
    ROLLOUT_MOVED = _Definition(20136, "ROLLOUT MOVED ON", "WARNING", "For information.")


class _DefinitionMessage(BaseModel):
    """Definition of an alarm, as the alarm manager reads it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    alarm_id: int
    alarm_text: str
    event_type: str = "Processing error"
    operation_instructions: str
    raise_delay: int = 0
    clear_delay: int = 0
    time_to_live: int = 0


class _AlarmMessage(BaseModel):
    """An alarm that is raised or cleared, as the alarm manager reads it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    managed_object_id: str
    application_id: str
    specific_problem: int
    perceived_severity: str
    identifying_info: str
    additional_info: str
    alarm_action: Literal["RAISE", "CLEAR"] = Field(alias="AlarmAction")
    alarm_time: int = Field(alias="AlarmTime", description="ns since the Unix epoch")


class Alarms:
    """Sends alarms; see the module.

    Args:
        manager: address of the alarm manager.
        app: name of the xApp, the managed object; ``instance`` is the application id.
        timeout_s: of a request.

    Attributes:
        counts: ``raised`` and ``cleared``, and requests by result.
    """

    def __init__(self, manager: str, app: str, instance: str, timeout_s: float) -> None:
        self._url = f"{manager}/ric/v1/alarms"
        self._client = httpx.Client(timeout=timeout_s)
        self._app, self._instance = app, instance
        self._active: dict[tuple[Alarm, str], str] = {}
        self._due: dict[tuple[Alarm, str], _AlarmMessage] = {}
        self._lock = threading.Lock()
        self._defined = False
        self._backoff = Backoff()
        self._worker = Worker("ric-alarms", self._send)
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Start to send."""
        self._worker.start()

    def raise_(self, alarm: Alarm, about: str, text: str) -> None:
        """Raise an alarm, unless it is raised already; ``about`` distinguishes several of one kind."""
        with self._lock:
            if (alarm, about) in self._active:
                return
            self._active[alarm, about] = text
            self._due[alarm, about] = self._message(alarm, about, text, "RAISE")
        self.counts["raised"] += 1
        self._worker.wake()

    def clear(self, alarm: Alarm, about: str) -> None:
        """Clear an alarm, if it was raised."""
        with self._lock:
            text = self._active.pop((alarm, about), None)
            if text is None:
                return
            self._due[alarm, about] = self._message(alarm, about, text, "CLEAR")
        self.counts["cleared"] += 1
        self._worker.wake()

    def stop(self, timeout_s: float) -> None:
        """Send the pending messages, if that is possible within the time."""
        self._worker.stop(timeout_s)
        if self._due and self._defined:
            self._send()
        self._client.close()

    def _message(self, alarm: Alarm, about: str, text: str, action: Literal["RAISE", "CLEAR"]) -> _AlarmMessage:
        return _AlarmMessage(
            managed_object_id=self._app,
            application_id=self._instance,
            specific_problem=alarm.value.ident,
            perceived_severity=alarm.value.severity if action == "RAISE" else "CLEARED",
            identifying_info=about,
            additional_info=text,
            alarm_action=action,
            alarm_time=time.time_ns(),
        )

    def _send(self) -> float | None:
        with self._lock:
            due = dict(self._due)
        try:
            if due and not self._defined:
                self._client.post(f"{self._url}/define", json={"alarmdefinitions": _definitions()}).raise_for_status()
                self._defined = True
            for key, message in due.items():
                method = "POST" if message.alarm_action == "RAISE" else "DELETE"
                self._client.request(method, self._url, json=message.model_dump(by_alias=True)).raise_for_status()
                self.counts["sent"] += 1
                with self._lock:
                    if self._due.get(key) is message:
                        del self._due[key]
        except httpx.HTTPError as error:
            self.counts["failed"] += 1
            if self.counts["failed"] == 1:
                log.warning("alarm manager: %s; retrying", one_line(error))
            return self._backoff.pause_s()
        self._backoff.reset()
        return 0 if self._due else None


def _definitions() -> list[dict[str, int | str]]:
    """The definitions of all alarms, for JSON."""
    messages = [
        _DefinitionMessage(
            alarm_id=alarm.value.ident,
            alarm_text=alarm.value.text,
            operation_instructions=alarm.value.instructions,
        )
        for alarm in Alarm
    ]
    return [message.model_dump(by_alias=True) for message in messages]
