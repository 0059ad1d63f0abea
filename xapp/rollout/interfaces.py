"""The rollout's interfaces on the platform: HTTP API, metrics, readiness, A1 policies, alarms."""

from typing import Final

from distila.xapp.errors import InputError
from distila.xapp.ric.a1 import Apply, Operation
from distila.xapp.ric.alarms import Alarm, Alarms
from distila.xapp.ric.platform import Platform
from distila.xapp.rollout.a1 import apply_policy
from distila.xapp.rollout.api import rollout_router
from distila.xapp.rollout.controller import RolloutController, Transition
from distila.xapp.rollout.metrics import RolloutCollector
from distila.xapp.rollout.store import StoreLostError
from distila.xapp.rollout_config import RolloutConfig

_ABOUT: Final = "rollout"
_ALARM_OF: Final = {
    **dict.fromkeys(("roll_back", "abort", "kill"), Alarm.ROLLOUT_ROLLED_BACK),
    **dict.fromkeys(("hold", "pause", "stage_refused"), Alarm.ROLLOUT_HELD),
    **dict.fromkeys(("start", "advance", "promote", "resume"), Alarm.ROLLOUT_MOVED),
}


def attach(controller: RolloutController, config: RolloutConfig, platform: Platform) -> None:
    """Connect a rollout to the platform's HTTP server, metrics, health checks, A1 and alarms; before both are started.

    Raises:
        InputError: the token of the API cannot be used.
    """
    platform.serve(rollout_router(controller, config.token()))
    platform.registry.register(RolloutCollector(controller))
    platform.health.check(lambda: _degraded(controller))
    if platform.a1 is not None and config.a1_policy_type is not None:
        platform.a1.serve(config.a1_policy_type, a1_commands(controller))
    if platform.alarms is not None:
        alarms = platform.alarms
        controller.on_transition = lambda transition: _alarm(alarms, transition)


def a1_commands(controller: RolloutController) -> Apply:
    """The handler of the policy type of `distila.xapp.rollout.a1`."""

    def apply(operation: Operation, ident: str, payload: str) -> None:
        try:
            apply_policy(controller, operation, ident, payload)
        except StoreLostError as error:
            raise InputError(f"A1 policy {ident}: {error}") from None

    return apply


def _degraded(controller: RolloutController) -> str:
    trouble = controller.trouble
    return "".join(f"rollout: {what}: {why}" for what, why in list(trouble.items())[:1])


def _alarm(alarms: Alarms, transition: Transition) -> None:
    """Raise the alarm of a transition with its reason as the text, and clear those that no longer apply."""
    text = f"{transition.what} at stage {transition.stage} by {transition.who}: {transition.why}"
    if transition.what == "start":
        alarms.clear(Alarm.ROLLOUT_ROLLED_BACK, _ABOUT)
    alarm = _ALARM_OF.get(transition.what)
    if alarm is not Alarm.ROLLOUT_HELD and transition.what != "evaluate":
        alarms.clear(Alarm.ROLLOUT_HELD, _ABOUT)
    if alarm is not None:
        alarms.clear(alarm, _ABOUT)
        alarms.raise_(alarm, _ABOUT, text)
