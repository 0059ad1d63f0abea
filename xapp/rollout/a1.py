"""The rollout by A1 policy: the non-RT RIC sends the same commands that operators give.

The payload is a `machine.Command` as JSON, ``{"action": "start", "plan": {...}, "why": "..."}``; the plan
may also be the name of one that ships. Deleting the policy aborts the rollout.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distila.xapp.errors import InputError, first_error
from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.machine import Action, Command, RejectedError, State
from distila.xapp.rollout.plan import Plan, load_plan


class RolloutPolicy(BaseModel):
    """The policy type: a command to the rollout."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="distila rollout")

    action: Action
    plan: Plan | str | None = Field(default=None, description="start: the plan, or the name of one that ships")
    to_end: bool = Field(default=False, description="promote: the challenger becomes the policy of all UEs now")
    challenger: str | None = Field(default=None, description="promote to the end: which, if there are several")
    who: str | None = Field(
        default=None, min_length=1, max_length=100, description="for the audit log; default: the A1 policy"
    )
    why: str = Field(default="", max_length=500, description="for the audit log")
    expected_version: int | None = Field(
        default=None, description="the command is rejected if the rollout is at another version"
    )


def apply_policy(
    controller: RolloutController, operation: Literal["CREATE", "UPDATE", "DELETE"], instance_id: str, payload: str
) -> State | None:
    """Carry out an A1 policy.

    Args:
        controller: of this xApp.
        operation: of the A1 request.
        instance_id: of the policy; stands in for ``who`` where the payload names nobody.
        payload: of the policy, a `RolloutPolicy` as JSON; not read for DELETE.

    Returns:
        The state afterwards; None: a policy was deleted and no rollout was active.

    Raises:
        InputError: the payload is no command, or the command does not fit the state.
        StoreLostError: the store cannot be reached.
    """
    who = f"A1 policy {instance_id}"
    if operation == "DELETE":
        try:
            return controller.command(Command(action="abort", who=who, why="the policy was deleted"))
        except RejectedError:
            return None
    try:
        policy = RolloutPolicy.model_validate_json(payload)
    except ValidationError as error:
        raise InputError(f"{who}: {first_error(error)}") from None
    plan = load_plan(policy.plan) if isinstance(policy.plan, str) else policy.plan
    given = policy.model_dump(exclude={"plan", "who"})
    return controller.command(Command(**given, plan=plan, who=policy.who or who))
