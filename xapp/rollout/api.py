"""The rollout over HTTP: what `distila rollout` can do, for programs. OpenAPI comes with it (``/openapi.json``).

Every request carries ``Authorization: Bearer TOKEN``. 401: no token, or a wrong one; 409: the command does not fit the
state, or somebody else was faster; 422: bad input; 503: the store cannot be reached, or no token is configured.
"""

import hmac
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError
from distila.xapp.rollout.audit import verify
from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.machine import Command, ConflictError, RejectedError
from distila.xapp.rollout.plan import Plan, load_plan
from distila.xapp.rollout.store import StoreLostError

PREFIX = "/rollout/v1"


class Order(BaseModel):
    """Who wants it, and why: both go into the audit log."""

    model_config = ConfigDict(extra="forbid")

    who: str = Field(min_length=1, max_length=100, examples=["ana@noc"])
    why: str = Field(default="", max_length=500)
    expected_version: int | None = Field(default=None, description="409 if the rollout has moved on since")


class StartOrder(Order):
    """A start, with the plan itself or the name of one that ships."""

    plan: Plan | str


class PromoteOrder(Order):
    """To the next stage, or to the end: the challenger becomes the policy of all."""

    to_end: bool = False
    challenger: str | None = None


class Status(BaseModel):
    """The rollout as this replica sees it."""

    model_config = ConfigDict(extra="allow")

    status: str
    version: int


def rollout_router(controller: RolloutController, token: str | None) -> APIRouter:
    """The routes, for the xApp's HTTP server.

    Args:
        controller: carries the commands out.
        token: who has it may do everything; None: nobody may do anything.
    """
    bearer = HTTPBearer(auto_error=False, description="the token of the xApp's configuration")

    def authorised(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if token is None:
            raise HTTPException(503, "no token is configured: set rollout.token_file or DISTILA_ROLLOUT_TOKEN")
        # Compared in constant time, so that the answer's delay tells nothing about the token.
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})

    router = APIRouter(prefix=PREFIX, tags=["rollout"], dependencies=[Depends(authorised)])

    def carried_out(command: Callable[[], Command]) -> Status:
        try:
            controller.command(command())
        except (ConflictError, RejectedError) as error:
            raise HTTPException(409, str(error)) from None
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        except StoreLostError as error:
            raise HTTPException(503, str(error)) from None
        return Status(**controller.status())

    @router.get("/status", summary="Where the rollout stands, with the latest verdict")
    def status() -> Status:
        return Status(**controller.status())

    @router.get("/plan", summary="The plan of the latest rollout")
    def plan() -> Plan:
        if controller.state is None:
            raise HTTPException(404, "there never was a rollout")
        return controller.state.plan

    @router.get("/audit", summary="The audit log, checked")
    def audit(
        since: Annotated[int, Query(ge=1, description="number of the first entry")] = 1,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> dict[str, Any]:
        try:
            entries = controller.audit()
        except StoreLostError as error:
            raise HTTPException(503, str(error)) from None
        try:
            verify(entries)
            intact, fault = True, None
        except InputError as error:
            intact, fault = False, str(error)
        return {
            "intact": intact,
            "fault": fault,
            "entries": entries[since - 1 : since - 1 + limit],
            "total": len(entries),
        }

    @router.post("/start", summary="Start a rollout")
    def start(order: Annotated[StartOrder, Body()]) -> Status:
        def command() -> Command:
            plan = load_plan(order.plan) if isinstance(order.plan, str) else order.plan
            return Command(action="start", plan=plan, **order.model_dump(exclude={"plan"}))

        return carried_out(command)

    @router.post("/promote", summary="To the next stage, or to the end")
    def promote(order: Annotated[PromoteOrder, Body()]) -> Status:
        return carried_out(lambda: Command(action="promote", **order.model_dump()))

    @router.post("/pause", summary="Go no further by itself; guardrails stay")
    def pause(order: Annotated[Order, Body()]) -> Status:
        return carried_out(lambda: Command(action="pause", **order.model_dump()))

    @router.post("/resume", summary="Go on")
    def resume(order: Annotated[Order, Body()]) -> Status:
        return carried_out(lambda: Command(action="resume", **order.model_dump()))

    @router.post("/abort", summary="Back to the champion")
    def abort(order: Annotated[Order, Body()]) -> Status:
        return carried_out(lambda: Command(action="abort", **order.model_dump()))

    @router.post("/kill", summary="Back to the champion at once, here, even if the store cannot be reached")
    def kill(order: Annotated[Order, Body()]) -> Status:
        return carried_out(lambda: Command(action="kill", **order.model_dump()))

    return router
