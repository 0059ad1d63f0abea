"""What the xApp says of itself when asked: alive, ready, and with which configuration.

*Alive* means that the decision loop has moved lately: it wakes several times a second even when nothing comes in, so a
loop that has not moved is stuck, and a restart helps. *Ready* means that indications can come in and control messages
go out. What a restart cannot mend, such as an absent platform, makes the xApp not ready, never dead.
"""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse


class Health:
    """Collects what is wrong from whoever knows.

    Args:
        alive_after_s: a loop that has not moved for longer is stuck.
    """

    def __init__(self, alive_after_s: float) -> None:
        self._alive_after_s = alive_after_s
        self._moved_s = time.monotonic()
        self._checks: list[Callable[[], str]] = []

    def moved(self) -> None:
        """The decision loop has come round; called by it each time."""
        self._moved_s = time.monotonic()

    def check(self, check: Callable[[], str]) -> None:
        """Ask ``check`` whether the xApp is ready: it gives what is missing, or an empty string."""
        self._checks.append(check)

    def stuck(self) -> str:
        """What is wrong with the loop; empty if it moves."""
        still_s = time.monotonic() - self._moved_s
        return f"the decision loop has not moved for {still_s:.0f} s" if still_s > self._alive_after_s else ""

    def missing(self) -> list[str]:
        """What keeps the xApp from deciding."""
        return [wrong for wrong in (self.stuck(), *(check() for check in self._checks)) if wrong]

    def summary(self) -> str:
        """All that is missing in one line."""
        return "; ".join(self.missing())


def health_router(health: Health, config: Callable[[], Any]) -> APIRouter:
    """``/ric/v1/health/alive``, ``/ric/v1/health/ready`` and ``/ric/v1/config``.

    Args:
        health: what is asked.
        config: gives the configuration that is in force, for JSON.
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
