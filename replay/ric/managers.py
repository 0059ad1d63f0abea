"""The platform's managers over HTTP: subscriptions, E2 nodes, applications, alarms. They are as strict as the
real ones where an xApp could make a mistake, and can fail on demand.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.codec import SERVICE_MODEL, SERVICE_MODEL_VERSION
from distila.xapp.ric.http import HttpServer

_NOTIFY_TIMEOUT_S: Final = 2.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Endpoint(_Strict):
    Host: str
    HTTPPort: int = Field(ge=0, le=65535)
    RMRPort: int = Field(ge=0, le=65535)


class _Directives(_Strict):
    E2TimeoutTimerValue: int = Field(ge=1, le=10)
    E2RetryCount: int = Field(ge=0, le=10)
    RMRRoutingNeeded: bool


class _Subsequent(_Strict):
    SubsequentActionType: Literal["continue", "wait"]
    TimeToWait: str


class _Action(_Strict):
    ActionID: int = Field(ge=0, le=255)
    ActionType: Literal["report", "insert", "policy"]
    ActionDefinition: list[int]
    SubsequentAction: _Subsequent


class _Detail(_Strict):
    XappEventInstanceId: int = Field(ge=0, le=65535)
    EventTriggers: list[int]
    ActionToBeSetupList: list[_Action] = Field(min_length=1)


class SubscriptionRequest(_Strict):
    """What an xApp posts to the subscription manager."""

    SubscriptionId: str | None = None
    ClientEndpoint: _Endpoint
    Meid: str
    RANFunctionID: int = Field(ge=0, le=4095)
    E2SubscriptionDirectives: _Directives | None = None
    SubscriptionDetails: list[_Detail] = Field(min_length=1)


class _Manager:
    """A server of one router; ``fail_with`` makes it answer with that status, ``requests`` keeps all requests."""

    def __init__(self, port: int = 0) -> None:
        self.fail_with: int | None = None
        self.requests: list[tuple[str, str, Any]] = []
        self._http = HttpServer("127.0.0.1", port, [self._router()])
        self._http.start()

    @property
    def url(self) -> str:
        """Base URL of the manager."""
        return f"http://127.0.0.1:{self._http.port}"

    @property
    def port(self) -> int:
        """TCP port that it listens on."""
        return self._http.port

    def stop(self) -> None:
        """Stop the server."""
        self._http.stop()

    def _router(self) -> APIRouter:
        raise NotImplementedError

    async def _asked(self, request: Request) -> Any:
        """The body of a request, which is also added to `requests`; None if it has none."""
        body = await request.body()
        data = await request.json() if body else None
        self.requests.append((request.method, request.url.path, data))
        return data


class SubscriptionManager(_Manager):
    """ric-plt-submgr's REST interface.

    Args:
        subscribe: called with the instance id of a new subscription at the E2 node, or None when it ends.
        port: 0 takes a free one.

    Attributes:
        subscriptions: current ones, by SubscriptionId.
        reject_with: notify that the E2 node rejected the subscription, with this cause.
        notify_after_s: delay of the notification [s]; None: it is never sent.
    """

    def __init__(self, subscribe: Callable[[int | None], None], port: int = 0) -> None:
        self._subscribe = subscribe
        self._instances = 0
        self._idents = 0
        self.subscriptions: dict[str, SubscriptionRequest] = {}
        self.reject_with: str | None = None
        self.notify_after_s: float | None = 0.05
        self.notified: list[int] = []
        super().__init__(port)

    def _router(self) -> APIRouter:
        router = APIRouter(prefix="/ric/v1/subscriptions")

        @router.post("")
        async def subscribe(request: Request) -> Response:
            data = await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            try:
                asked = SubscriptionRequest.model_validate(data)
            except ValidationError as error:
                return JSONResponse({"error": str(error)}, status_code=httpx.codes.BAD_REQUEST)
            if asked.SubscriptionId is not None and asked.SubscriptionId not in self.subscriptions:
                return Response(status_code=httpx.codes.NOT_FOUND)
            if asked.SubscriptionId is None:
                self._idents += 1
            ident = asked.SubscriptionId or f"subscription-{self._idents}"
            self.subscriptions[ident] = asked
            threading.Thread(target=self._notify, args=(ident, asked), daemon=True).start()
            return JSONResponse({"SubscriptionId": ident, "SubscriptionInstances": None}, httpx.codes.CREATED)

        @router.delete("/{ident}")
        async def unsubscribe(ident: str, request: Request) -> Response:
            await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            if self.subscriptions.pop(ident, None) is None:
                return Response(status_code=httpx.codes.NOT_FOUND)
            self._subscribe(None)
            return Response(status_code=httpx.codes.NO_CONTENT)

        @router.get("")
        async def known() -> JSONResponse:
            return JSONResponse([{"SubscriptionId": ident, "Meid": s.Meid} for ident, s in self.subscriptions.items()])

        return router

    def notify(self, ident: str, endpoint: _Endpoint, instance_id: int, cause: str | None) -> None:
        """Post a notification."""
        instance = {"XappEventInstanceId": 1, "E2EventInstanceId": instance_id, "ErrorCause": cause or ""}
        url = f"http://{endpoint.Host}:{endpoint.HTTPPort}/ric/v1/subscriptions/response"
        body = {"SubscriptionId": ident, "SubscriptionInstances": [instance]}
        self.notified.append(httpx.post(url, json=body, timeout=_NOTIFY_TIMEOUT_S).status_code)

    def _notify(self, ident: str, asked: SubscriptionRequest) -> None:
        if self.notify_after_s is None:
            return
        time.sleep(self.notify_after_s)
        if self.reject_with is not None:
            self.notify(ident, asked.ClientEndpoint, 0, self.reject_with)
            return
        self._instances += 1
        self._subscribe(self._instances)
        self.notify(ident, asked.ClientEndpoint, self._instances, None)


class E2Manager(_Manager):
    """ric-plt-e2mgr's node interface.

    Args:
        nodes: RAN function id of distila's service model by RAN name.
        port: 0 takes a free one.

    Attributes:
        disconnected: RAN names of those that are away.
    """

    def __init__(self, nodes: dict[str, int], port: int = 0) -> None:
        self.nodes = nodes
        self.disconnected: set[str] = set()
        super().__init__(port)

    def _router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/nodeb")

        @router.get("/states")
        async def states(request: Request) -> Response:
            await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            return JSONResponse(
                [
                    {
                        "inventoryName": name,
                        "globalNbId": {"plmnId": "00101F", "nbId": "0001"},
                        "connectionStatus": "DISCONNECTED" if name in self.disconnected else "CONNECTED",
                    }
                    for name in self.nodes
                ]
            )

        @router.get("/{name}")
        async def node(name: str) -> Response:
            if name not in self.nodes:
                return Response(status_code=httpx.codes.NOT_FOUND)
            ours = pb.RanFunctionDefinition(
                service_model=pb.ServiceModel(name=SERVICE_MODEL, version=SERVICE_MODEL_VERSION)
            )
            functions = [
                # Another service model's definition, which is not even protobuf.
                {"ranFunctionId": 2, "ranFunctionDefinition": "ff80", "ranFunctionRevision": 1},
                {
                    "ranFunctionId": self.nodes[name],
                    "ranFunctionDefinition": ours.SerializeToString().hex().upper(),
                    "ranFunctionRevision": 1,
                },
            ]
            return JSONResponse({"ranName": name, "connectionStatus": "CONNECTED", "gnb": {"ranFunctions": functions}})

        return router


class ApplicationManager(_Manager):
    """ric-plt-appmgr's registration.

    Attributes:
        registered: body of the registration of each instance.
    """

    def __init__(self, port: int = 0) -> None:
        self.registered: dict[str, dict[str, JsonValue]] = {}
        super().__init__(port)

    def _router(self) -> APIRouter:
        router = APIRouter(prefix="/ric/v1")
        needed = ("appName", "appVersion", "appInstanceName", "httpEndpoint", "rmrEndpoint", "config")

        @router.post("/register")
        async def register(request: Request) -> Response:
            data = await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in needed):
                return Response(status_code=httpx.codes.BAD_REQUEST)
            self.registered[data["appInstanceName"]] = data
            return Response(status_code=httpx.codes.CREATED)

        @router.post("/deregister")
        async def deregister(request: Request) -> Response:
            data = await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            self.registered.pop(data["appInstanceName"], None)
            return Response(status_code=httpx.codes.NO_CONTENT)

        return router


class AlarmManager(_Manager):
    """The alarm manager: accepts alarms that are defined, and ignores others without an error.

    Attributes:
        defined: ids of defined alarms.
        active: alarms raised and not cleared, by id and identifying info.
        history: every alarm message that was accepted.
    """

    def __init__(self, port: int = 0) -> None:
        self.defined: set[int] = set()
        self.active: dict[tuple[int, str], dict[str, JsonValue]] = {}
        self.history: list[dict[str, JsonValue]] = []
        super().__init__(port)

    def _router(self) -> APIRouter:
        router = APIRouter(prefix="/ric/v1/alarms")

        @router.post("/define")
        async def define(request: Request) -> Response:
            data = await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            self.defined |= {definition["alarmId"] for definition in data["alarmdefinitions"]}
            return Response(status_code=httpx.codes.OK)

        @router.api_route("", methods=["POST", "DELETE"])
        async def alarm(request: Request) -> Response:
            data = await self._asked(request)
            if self.fail_with is not None:
                return Response(status_code=self.fail_with)
            key = (data["specificProblem"], data["identifyingInfo"])
            complete = data["managedObjectId"] and data["applicationId"] and data["AlarmAction"]
            if complete and key[0] in self.defined:
                self.history.append(data)
                if request.method == "POST":
                    self.active[key] = data
                else:
                    self.active.pop(key, None)
            return Response(status_code=httpx.codes.OK)

        return router
