"""Subscriptions at the subscription manager: one for each E2 node that offers distila's service model.

    wanted -> asked (the manager has accepted it) -> active (its notification names the instance) -> silent -> asked

The manager answers a request with a SubscriptionId, and later notifies ``/ric/v1/subscriptions/response`` whether the
E2 node agreed, with the instance id that its indications will carry. The SubscriptionId is kept in SDL: with it a
restarted xApp gets its former subscription. A node that goes silent, as after a restart of the E2 termination, is
subscribed to again. All times are of the monotonic clock, so setting the wall clock has no effect.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.errors import first_error, one_line
from distila.xapp.platform_config import RicConfig
from distila.xapp.ric.nodes import E2NodeOffer, Nodes, NodesUnknownError
from distila.xapp.ric.sdl import Sdl
from distila.xapp.ric.worker import Backoff, Worker

log = logging.getLogger(__name__)

_KEY: Final = "subscription:"
_TICK_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_ACTION_ID: Final = 1
_EVENT_INSTANCE_ID: Final = 1
_E2_TIMEOUT_S: Final = 5
_E2_RETRIES: Final = 2


class Instance(BaseModel):
    """The result of one subscription detail at the E2 node."""

    model_config = ConfigDict(populate_by_name=True)

    e2_event_instance_id: int = Field(alias="E2EventInstanceId", ge=0, le=65535)
    error_cause: str | None = Field(default=None, alias="ErrorCause")
    error_source: str | None = Field(default=None, alias="ErrorSource")


class Notification(BaseModel):
    """A notification of the subscription manager."""

    model_config = ConfigDict(populate_by_name=True)

    subscription_id: str = Field(alias="SubscriptionId")
    instances: list[Instance] = Field(alias="SubscriptionInstances")


class _Answer(BaseModel):
    """The subscription manager's answer to a request."""

    subscription_id: str = Field(alias="SubscriptionId")


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True, frozen=True)


class _SubsequentAction(_Body):
    subsequent_action_type: str = "continue"
    time_to_wait: str = "zero"


class _Action(_Body):
    action_id: int = Field(alias="ActionID")
    action_type: str = "report"
    action_definition: list[int] = Field(description="octets of the service model's ActionDefinition")
    subsequent_action: _SubsequentAction = _SubsequentAction()


class _SubscriptionDetail(_Body):
    xapp_event_instance_id: int
    event_triggers: list[int] = Field(description="octets of the service model's EventTriggerDefinition")
    action_to_be_setup_list: list[_Action]


class _Directives(_Body):
    e2_timeout_timer_value: int = Field(alias="E2TimeoutTimerValue")
    e2_retry_count: int = Field(alias="E2RetryCount")
    rmr_routing_needed: bool = Field(default=True, alias="RMRRoutingNeeded")


class _ClientEndpoint(_Body):
    host: str
    http_port: int = Field(alias="HTTPPort")
    rmr_port: int = Field(alias="RMRPort")


class _Request(_Body):
    """A subscription request, as the subscription manager reads it."""

    subscription_id: str | None = Field(default=None, description="of the former subscription; null: a new one")
    client_endpoint: _ClientEndpoint
    meid: str
    ran_function_id: int = Field(alias="RANFunctionID")
    directives: _Directives = Field(alias="E2SubscriptionDirectives")
    subscription_details: list[_SubscriptionDetail]


@dataclass
class _Subscription:
    """The subscription at one E2 node; ``ident``: the manager's SubscriptionId, ``instances``: ids in indications."""

    meid: str
    ident: str | None = None
    state: str = "wanted"  # wanted, asked, active
    instances: frozenset[int] = frozenset()
    asked_s: float = 0.0
    last_indication_s: float = 0.0
    next_try_s: float = 0.0
    failure: str = ""
    backoff: Backoff = field(default_factory=lambda: Backoff(longest_s=_LONGEST_PAUSE_S))

    def retry(self, failure: str) -> None:
        """Try again later, after a failure."""
        self.state, self.instances, self.failure = "wanted", frozenset(), failure
        self.next_try_s = time.monotonic() + self.backoff.pause_s()


class Subscriptions:
    """Keeps the xApp subscribed.

    Args:
        config: of the platform.
        http_port, rmr_port: where the xApp listens.
        cells: report these only; empty: all.
        sdl: where SubscriptionIds outlive the process.

    Attributes:
        counts: requests and notifications by result.
    """

    def __init__(self, config: RicConfig, http_port: int, rmr_port: int, cells: list[str], sdl: Sdl | None) -> None:
        self._config = config.subscription
        self._base = f"{config.submgr}/ric/v1/subscriptions"
        self._client = httpx.Client(timeout=config.timeout_s)
        self._nodes = None if config.e2mgr is None else Nodes(config.e2mgr, self._client, self._config.ran_function_id)
        self._endpoint = _ClientEndpoint(host=config.host, http_port=http_port, rmr_port=rmr_port)
        self._cells = cells
        self._sdl = sdl
        self._of: dict[str, _Subscription] = {}
        self._offers: list[E2NodeOffer] = []
        self._discover_s = 0.0
        self._closed = False
        self._asking = False
        self._early: dict[str, Notification] = {}
        self._failure = ""
        self._changing = threading.Lock()
        self._worker = Worker("ric-subscriptions", self._step)
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    # On the receive thread of RMR, for each indication: no locks, no slow calls.

    def knows(self, meid: str, instance_id: int) -> bool:
        """Whether an indication belongs to a subscription, even if its notification has not arrived yet."""
        subscription = self._of.get(meid)
        return subscription is not None and (
            instance_id in subscription.instances or (subscription.state == "asked" and not subscription.instances)
        )

    def indication_received(self, meid: str) -> None:
        """Note the time of an indication of a node."""
        subscription = self._of.get(meid)
        if subscription is not None:
            subscription.last_indication_s = time.monotonic()

    # From other threads.

    def missing(self) -> str:
        """For `Health.check`: ready means that at least one subscription is active."""
        subscriptions = list(self._of.values())
        if any(subscription.state == "active" for subscription in subscriptions):
            return ""
        why = next((s.failure for s in subscriptions if s.failure), self._failure)
        return "no active subscription" + (f": {why}" if why else "")

    def states(self) -> Mapping[str, int]:
        """How many subscriptions are in each state."""
        return Counter(subscription.state for subscription in list(self._of.values()))

    def notified(self, notification: Notification) -> None:
        """Apply a notification of the subscription manager; one of an unknown subscription is counted."""
        with self._changing:
            known = next((s for s in self._of.values() if s.ident == notification.subscription_id), None)
            if known is not None:
                self._settle(known, notification)
            elif self._asking:
                # It may have overtaken the answer to the request, which names the subscription.
                self._early[notification.subscription_id] = notification
            else:
                self.counts["notification_unknown"] += 1
        self._worker.wake()

    def _settle(self, subscription: _Subscription, notification: Notification) -> None:
        instances = notification.instances
        agreed = frozenset(i.e2_event_instance_id for i in instances if i.e2_event_instance_id)
        if agreed:
            self.counts["notification_active"] += 1
            subscription.state, subscription.instances, subscription.failure = "active", agreed, ""
            subscription.last_indication_s = time.monotonic()
            log.info("subscribed to %s, instance %s", subscription.meid, sorted(agreed))
            return
        self.counts["notification_failed"] += 1
        causes = {f"{i.error_source or 'E2 node'}: {i.error_cause or 'no cause'}" for i in instances}
        subscription.retry(
            f"{subscription.meid} rejected the subscription ({', '.join(sorted(causes)) or 'no instance'})"
        )
        log.warning("subscription: %s", subscription.failure)

    def stop(self, timeout_s: float) -> None:
        """Unsubscribe everywhere, as far as the time allows."""
        self._closed = True
        end_s = time.monotonic() + timeout_s
        self._worker.stop(timeout_s)
        for subscription in list(self._of.values()):
            left_s = end_s - time.monotonic()
            if subscription.ident is None:
                continue
            if left_s <= 0:
                self.counts["delete_no_time"] += 1
            elif self._delete(subscription, left_s) and self._sdl is not None:
                self._sdl.delete(_KEY + subscription.meid)
        self._of = {}
        self._client.close()

    # On the worker's thread.

    def _step(self) -> float:
        now_s = time.monotonic()
        if now_s >= self._discover_s:
            self._discover()
            self._discover_s = now_s + self._config.discover_every_s
        for offer in self._offers:
            subscription = self._of[offer.meid]
            silent_s = now_s - subscription.last_indication_s
            if subscription.state == "active" and silent_s > self._config.silent_after_s:
                self.counts["silent"] += 1
                log.warning("%s has been silent for %.0f s: subscribing again", offer.meid, silent_s)
                self._delete(subscription)
                subscription.ident = None
                subscription.retry(f"{offer.meid} is silent")
            elif subscription.state == "asked" and now_s - subscription.asked_s > self._config.silent_after_s:
                # The same request again: the manager knows it by its SubscriptionId, and notifies once more.
                self.counts["notification_late"] += 1
                subscription.retry(f"no notification for {offer.meid}")
            if subscription.state == "wanted" and time.monotonic() >= subscription.next_try_s and not self._closed:
                self._ask(subscription, offer.ran_function_id)
        return _TICK_S

    def _discover(self) -> None:
        """Query the connected nodes; the subscriptions of nodes that disconnected are deleted."""
        configured = self._config.nodes
        if self._nodes is None:
            offers = [E2NodeOffer(meid, self._config.ran_function_id or 0) for meid in configured]
        else:
            try:
                offers = [offer for offer in self._nodes.offers() if not configured or offer.meid in configured]
            except NodesUnknownError as error:
                self.counts["e2mgr_failed"] += 1
                self._failure = one_line(error)
                log.warning("%s", self._failure)
                return
        self._failure = "" if offers else "no E2 node offers the service model"
        offered = {offer.meid for offer in offers}
        fresh = [meid for meid in offered if meid not in self._of]
        kept = self._stored_ids(fresh)
        with self._changing:
            disconnected = [self._of[meid] for meid in self._of if meid not in offered]
            # Replaced, not changed: other threads read it without a lock.
            self._of = {
                **{meid: s for meid, s in self._of.items() if meid in offered},
                **{meid: _Subscription(meid, kept.get(meid)) for meid in fresh},
            }
            self._offers = offers
        for subscription in disconnected:
            self.counts["node_gone"] += 1
            log.warning("%s is no longer connected", subscription.meid)
            if subscription.ident is not None and self._delete(subscription) and self._sdl is not None:
                self._sdl.delete(_KEY + subscription.meid)

    def _stored_ids(self, meids: list[str]) -> dict[str, str]:
        """SubscriptionIds from before a restart."""
        if self._sdl is None:
            return {}
        found = self._sdl.get([_KEY + meid for meid in meids])
        return {key.removeprefix(_KEY): value.decode(errors="replace") for key, value in found.items()}

    def _ask(self, subscription: _Subscription, ran_function_id: int) -> None:
        with self._changing:
            self._asking = True
        ident, failure = self._post(self._request(subscription, ran_function_id))
        with self._changing:
            self._asking = False
            early, self._early = self._early, {}
            if ident is None:
                if failure == httpx.codes.NOT_FOUND:
                    # The manager no longer knows the SubscriptionId from before.
                    subscription.ident = None
                subscription.retry(f"subscription manager: {failure} for {subscription.meid}")
            else:
                subscription.ident, subscription.asked_s = ident, time.monotonic()
                subscription.state, subscription.instances = "asked", frozenset()
                notification = early.pop(ident, None)
                if notification is not None:
                    self._settle(subscription, notification)
            if early:
                self.counts["notification_unknown"] += len(early)
        if ident is not None and self._sdl is not None:
            self._sdl.set(_KEY + subscription.meid, ident.encode())

    def _post(self, request: _Request) -> tuple[str | None, int | str]:
        """The SubscriptionId; or None, and the HTTP status or the error."""
        try:
            response = self._client.post(self._base, json=request.model_dump(by_alias=True, exclude_none=True))
            answer = _Answer.model_validate_json(response.content)
        except httpx.HTTPError as error:
            self.counts["request_unreachable"] += 1
            return None, one_line(error)
        except ValidationError:
            answer = None
        if answer is None or response.status_code != httpx.codes.CREATED:
            self.counts[f"request_{response.status_code}"] += 1
            log.warning("subscription manager answered %d for %s", response.status_code, request.meid)
            return None, response.status_code
        self.counts["request_accepted"] += 1
        return answer.subscription_id, ""

    def _request(self, subscription: _Subscription, ran_function_id: int) -> _Request:
        trigger = pb.EventTriggerDefinition(report_period_ms=self._config.report_period_ms).SerializeToString()
        action = pb.ActionDefinition(cell_ids=self._cells).SerializeToString()
        detail = _SubscriptionDetail(
            xapp_event_instance_id=_EVENT_INSTANCE_ID,
            event_triggers=list(trigger),
            action_to_be_setup_list=[_Action(action_id=_ACTION_ID, action_definition=list(action))],
        )
        return _Request(
            subscription_id=subscription.ident,
            client_endpoint=self._endpoint,
            meid=subscription.meid,
            ran_function_id=ran_function_id,
            directives=_Directives(e2_timeout_timer_value=_E2_TIMEOUT_S, e2_retry_count=_E2_RETRIES),
            subscription_details=[detail],
        )

    def _delete(self, subscription: _Subscription, timeout_s: float | None = None) -> bool:
        """Whether the manager has accepted the deletion, or does not know the subscription."""
        limit = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        try:
            status = self._client.delete(f"{self._base}/{subscription.ident}", timeout=limit).status_code
        except httpx.HTTPError as error:
            self.counts["delete_unreachable"] += 1
            log.warning("subscription manager: %s", one_line(error))
            return False
        done = status in (httpx.codes.NO_CONTENT, httpx.codes.OK, httpx.codes.NOT_FOUND)
        self.counts["delete_accepted" if done else f"delete_{status}"] += 1
        return done


def subscriptions_router(subscriptions: Subscriptions) -> APIRouter:
    """``/ric/v1/subscriptions/response``, where the subscription manager notifies."""
    router = APIRouter()

    @router.post("/ric/v1/subscriptions/response")
    async def response(request: Request) -> Response:
        try:
            notification = Notification.model_validate_json(await request.body())
        except ValidationError as error:
            subscriptions.counts["notification_malformed"] += 1
            return Response(first_error(error), status_code=httpx.codes.BAD_REQUEST)
        subscriptions.notified(notification)
        return Response(status_code=httpx.codes.OK)

    return router
