"""Alarms at the platform's alarm manager, over its REST interface.

An alarm is raised once and cleared once, whatever the number of reports in between; while the manager is away the
latest state of each is kept and sent when it is back. The manager ignores alarms that it has no definition of, so ours
go first.
"""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import httpx

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
    """What there are alarms about."""

    CONFIGURATION_REJECTED = _Definition(
        20131, "CONFIGURATION REJECTED", "MINOR", "Correct the configuration; the previous one is in force."
    )
    POLICY_REJECTED = _Definition(
        20132,
        "POLICY BUNDLE REJECTED",
        "MAJOR",
        "Check the bundle with `distila policy check`; the previous one decides.",
    )
    NO_TELEMETRY = _Definition(
        20133, "NO E2 TELEMETRY", "MAJOR", "Check E2 node, E2 termination and subscription manager."
    )
    ROLLOUT_ROLLED_BACK = _Definition(
        20134, "POLICY ROLLED BACK", "WARNING", "See the audit log of the rollout for the guardrail that tripped."
    )
    ROLLOUT_HELD = _Definition(20135, "ROLLOUT HELD", "WARNING", "`distila rollout status` says what it waits for.")
    ROLLOUT_MOVED = _Definition(20136, "ROLLOUT MOVED ON", "WARNING", "For information.")


class Alarms:
    """See the module.

    Args:
        manager: address of the alarm manager.
        app: name of the xApp, the managed object; ``instance`` is the application id.
        timeout_s: of a request.

    Attributes:
        counts: ``raised`` and ``cleared``, and requests by what came of them.
    """

    def __init__(self, manager: str, app: str, instance: str, timeout_s: float) -> None:
        self._url = f"{manager}/ric/v1/alarms"
        self._client = httpx.Client(timeout=timeout_s)
        self._who = {"managedObjectId": app, "applicationId": instance}
        self._active: dict[tuple[Alarm, str], str] = {}
        self._due: dict[tuple[Alarm, str], dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._defined = False
        self._backoff = Backoff()
        self._worker = Worker("ric-alarms", self._send)
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to send."""
        self._worker.start()

    def raise_(self, alarm: Alarm, about: str, text: str) -> None:
        """Raise an alarm; ``about`` tells several of one kind apart. Raised already: nothing happens."""
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
        """Send what is due, if that is possible in time."""
        self._worker.stop(timeout_s)
        if self._due and self._defined:
            self._send()
        self._client.close()

    def _message(self, alarm: Alarm, about: str, text: str, action: str) -> dict[str, Any]:
        return {
            **self._who,
            "specificProblem": alarm.value.ident,
            "perceivedSeverity": alarm.value.severity if action == "RAISE" else "CLEARED",
            "identifyingInfo": about,
            "additionalInfo": text,
            "AlarmAction": action,
            "AlarmTime": time.time_ns(),
        }

    def _send(self) -> float | None:
        with self._lock:
            due = dict(self._due)
        try:
            if due and not self._defined:
                self._client.post(f"{self._url}/define", json={"alarmdefinitions": _DEFINITIONS}).raise_for_status()
                self._defined = True
            for key, message in due.items():
                method = "POST" if message["AlarmAction"] == "RAISE" else "DELETE"
                self._client.request(method, self._url, json=message).raise_for_status()
                self.counts["sent"] += 1
                with self._lock:
                    if self._due.get(key) is message:
                        del self._due[key]
        except httpx.HTTPError as error:
            self.counts["failed"] += 1
            if self.counts["failed"] == 1:
                log.warning("alarm manager: %s; trying again", one_line(error))
            return self._backoff.pause_s()
        self._backoff.reset()
        return 0 if self._due else None


_DEFINITIONS: Final = [
    {
        "alarmId": alarm.value.ident,
        "alarmText": alarm.value.text,
        "eventType": "Processing error",
        "operationInstructions": alarm.value.instructions,
        "raiseDelay": 0,
        "clearDelay": 0,
        "timeToLive": 0,
    }
    for alarm in Alarm
]
