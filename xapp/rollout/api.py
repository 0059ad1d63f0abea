"""The rollout over HTTP: what `distila rollout` can do, for programs. OpenAPI comes with it (``/openapi.json``).

Every request carries ``Authorization: Bearer TOKEN``. Answers: 401 without a token or with a wrong one; 409 if the
command is not possible in this state or another operator was faster; 422 for bad input; 503 if the store cannot be
reached or no token is configured.
"""

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError
from distila.xapp.rollout.audit import Entry, verify
from distila.xapp.rollout.controller import RolloutController, RolloutStatus
from distila.xapp.rollout.machine import Command, ConflictError, RejectedError
from distila.xapp.rollout.plan import Plan, load_plan
from distila.xapp.rollout.store import StoreLostError

PREFIX = "/rollout/v1"


class CommandBody(BaseModel):
    """Who gives a command, and why: both are written to the audit log."""

    model_config = ConfigDict(extra="forbid")

    who: str = Field(min_length=1, max_length=100, examples=["ana@noc"])
    why: str = Field(default="", max_length=500)
    expected_version: int | None = Field(
        default=None, description="the answer is 409 if the rollout is at another version"
    )


class StartBody(CommandBody):
    """A start, with the plan itself or the name of one that ships."""

    plan: Plan | str


class PromoteBody(CommandBody):
    """A promotion to the next stage, or to the end: then the challenger becomes the policy of all UEs."""

    to_end: bool = False
    challenger: str | None = None


class AuditLog(BaseModel):
    """The audit log, or a part of it, and whether the whole is as it was written."""

    intact: bool
    fault: str | None = Field(description="the first entry that is not as it was written; null: none")
    entries: list[Entry]
    total: int = Field(description="number of entries in the whole log")


def rollout_router(controller: RolloutController, token: str | None) -> APIRouter:
    """The routes, for the xApp's HTTP server.

    Args:
        controller: carries the commands out.
        token: a request that carries it may do everything; None: every request is answered 503.
    """
    bearer = HTTPBearer(auto_error=False, description="the token of the xApp's configuration")

    def authorised(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if token is None:
            raise HTTPException(503, "no token is configured: set rollout.token_file or DISTILA_ROLLOUT_TOKEN")
        # Compared in constant time, so that the delay of the answer reveals nothing about the token.
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})

    router = APIRouter(prefix=PREFIX, tags=["rollout"], dependencies=[Depends(authorised)])

    def carried_out(command: Callable[[], Command]) -> RolloutStatus:
        try:
            controller.command(command())
        except (ConflictError, RejectedError) as error:
            raise HTTPException(409, str(error)) from None
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        except StoreLostError as error:
            raise HTTPException(503, str(error)) from None
        return controller.status()

    @router.get("/status", summary="Status of the rollout, with the latest verdict", response_model_exclude_unset=True)
    def status() -> RolloutStatus:
        return controller.status()

    @router.get("/plan", summary="The plan of the latest rollout")
    def plan() -> Plan:
        if controller.state is None:
            raise HTTPException(404, "there is no rollout yet")
        return controller.state.plan

    @router.get("/audit", summary="The audit log, with the result of the check of its hash chain")
    def audit(
        since: Annotated[int, Query(ge=1, description="number of the first entry")] = 1,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> AuditLog:
        try:
            entries = controller.audit()
        except StoreLostError as error:
            raise HTTPException(503, str(error)) from None
        fault = None
        try:
            verify(entries)
        except InputError as error:
            fault = str(error)
        part = entries[since - 1 : since - 1 + limit]
        return AuditLog(intact=fault is None, fault=fault, entries=part, total=len(entries))

    @router.post("/start", summary="Start a rollout", response_model_exclude_unset=True)
    def start(body: Annotated[StartBody, Body()]) -> RolloutStatus:
        def command() -> Command:
            plan = load_plan(body.plan) if isinstance(body.plan, str) else body.plan
            return Command(action="start", plan=plan, **body.model_dump(exclude={"plan"}))

        return carried_out(command)

    @router.post("/promote", summary="Go to the next stage, or to the end", response_model_exclude_unset=True)
    def promote(body: Annotated[PromoteBody, Body()]) -> RolloutStatus:
        return carried_out(lambda: Command(action="promote", **body.model_dump()))

    @router.post("/pause", summary="Stop advancing; the guardrails stay in force", response_model_exclude_unset=True)
    def pause(body: Annotated[CommandBody, Body()]) -> RolloutStatus:
        return carried_out(lambda: Command(action="pause", **body.model_dump()))

    @router.post("/resume", summary="Resume after a pause or a hold", response_model_exclude_unset=True)
    def resume(body: Annotated[CommandBody, Body()]) -> RolloutStatus:
        return carried_out(lambda: Command(action="resume", **body.model_dump()))

    @router.post("/abort", summary="End the rollout: all UEs return to the champion", response_model_exclude_unset=True)
    def abort(body: Annotated[CommandBody, Body()]) -> RolloutStatus:
        return carried_out(lambda: Command(action="abort", **body.model_dump()))

    @router.post(
        "/kill",
        summary="End the rollout at once on this xApp, even if its store cannot be reached",
        response_model_exclude_unset=True,
    )
    def kill(body: Annotated[CommandBody, Body()]) -> RolloutStatus:
        return carried_out(lambda: Command(action="kill", **body.model_dump()))

    return router
