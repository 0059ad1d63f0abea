"""The rollout by A1 policy: what the non-RT RIC sends down becomes the same commands that operators give.

The payload is a `machine.Command` as JSON, ``{"action": "start", "plan": {...}, "why": "..."}``; the plan
may also be the name of one that ships. Deleting the policy aborts the rollout.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import ValidationError

from distila.xapp.errors import InputError, first_error
from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.machine import Command, RejectedError, State
from distila.xapp.rollout.plan import Plan, load_plan

POLICY_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "distila rollout",
    "type": "object",
    "required": ["action"],
    "additionalProperties": False,
    "properties": {
        "action": {"enum": ["start", "pause", "resume", "promote", "abort", "kill"]},
        "plan": {"anyOf": [{"type": "string"}, Plan.model_json_schema()]},
        "to_end": {"type": "boolean"},
        "challenger": {"type": "string"},
        "who": {"type": "string", "minLength": 1},
        "why": {"type": "string"},
        "expected_version": {"type": "integer"},
    },
}
"""The schema of the policy type, for the non-RT RIC."""


def apply_policy(
    controller: RolloutController,
    operation: Literal["CREATE", "UPDATE", "DELETE"],
    instance_id: str,
    payload: Mapping[str, Any],
) -> State | None:
    """Carry out an A1 policy.

    Args:
        controller: of this xApp.
        operation: of the A1 request.
        instance_id: of the policy; stands in for ``who`` where the payload names nobody.
        payload: of the policy.

    Returns:
        The state afterwards; None: a policy was deleted and no rollout was active.

    Raises:
        InputError: the payload is no command, or the command does not fit.
        StoreLostError: the store cannot be reached.
    """
    who = f"A1 policy {instance_id}"
    if operation == "DELETE":
        try:
            return controller.command(Command(action="abort", who=who, why="the policy was deleted"))
        except RejectedError:
            return None
    data = {"who": who, **payload}
    if isinstance(data.get("plan"), str):
        data["plan"] = load_plan(data["plan"])
    try:
        command = Command.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{who}: {first_error(error)}") from None
    return controller.command(command)
