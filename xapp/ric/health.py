"""Health of the xApp over HTTP: alive, ready, and the configuration in force.

*Alive* means that the decision loop ran recently: it wakes several times a second even without indications, so a loop
that did not run is stuck, and a restart helps. *Ready* means that indications can be received and control messages
sent. A fault that a restart cannot mend, such as an absent platform, makes the xApp not ready, never dead.
"""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse


class Health:
    """Collects the faults that the parts of the xApp report.

    Args:
        alive_after_s: a loop that did not run for longer is stuck.
    """

    def __init__(self, alive_after_s: float) -> None:
        self._alive_after_s = alive_after_s
        self._ran_s = time.monotonic()
        self._checks: list[Callable[[], str]] = []

    def loop_ran(self) -> None:
        """Called by the decision loop each time it runs."""
        self._ran_s = time.monotonic()

    def check(self, check: Callable[[], str]) -> None:
        """Add a check of readiness; it returns what is missing, or an empty string."""
        self._checks.append(check)

    def stuck(self) -> str:
        """Why the loop counts as stuck; empty if it runs."""
        still_s = time.monotonic() - self._ran_s
        return f"the decision loop has not run for {still_s:.0f} s" if still_s > self._alive_after_s else ""

    def missing(self) -> list[str]:
        """What keeps the xApp from being ready."""
        return [wrong for wrong in (self.stuck(), *(check() for check in self._checks)) if wrong]

    def summary(self) -> str:
        """Everything that is missing, in one line."""
        return "; ".join(self.missing())


def health_router(health: Health, config: Callable[[], Any]) -> APIRouter:
    """``/ric/v1/health/alive``, ``/ric/v1/health/ready`` and ``/ric/v1/config``.

    Args:
        health: answers the probes.
        config: returns the configuration in force, for JSON.
    """
    router = APIRouter(prefix="/ric/v1")

    @router.get("/health/alive")
    async def alive() -> JSONResponse:
        stuck = health.stuck()
        return _answer([stuck] if stuck else [])

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        return _answer(health.missing())

    @router.get("/config")
    async def configuration() -> Response:
        return JSONResponse(config())

    return router


def _answer(wrong: list[str]) -> JSONResponse:
    status = "unavailable" if wrong else "ok"
    return JSONResponse({"status": status, "missing": wrong}, status_code=503 if wrong else 200)
