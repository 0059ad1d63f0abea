"""The xApp's HTTP server: whatever routers it is given, served from a thread of its own."""

import socket
import threading
from collections.abc import Sequence
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI

from distila.xapp.errors import InputError

_BACKLOG: Final = 64
_STOP_S: Final = 1.0


class HttpServer:
    """See the module. The port is taken at once, requests are served from `start` on.

    Args:
        host: address to listen on.
        port: 0 takes a free one; `port` says which.
        routers: what to serve.

    Raises:
        InputError: the port cannot be had.
    """

    def __init__(self, host: str, port: int, routers: Sequence[APIRouter] = ()) -> None:
        self._app = FastAPI(title="distila", docs_url=None, redoc_url=None)
        self.serve(*routers)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise InputError(f"http: cannot listen on {host}:{port}: {error.strerror or error}") from None
        self._socket.listen(_BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=int(_STOP_S)
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def serve(self, *routers: APIRouter) -> None:
        """Serve these as well. Handlers that are not quick must be plain functions: these run on threads."""
        for router in routers:
            self._app.include_router(router)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, then close the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * _STOP_S)
        self._socket.close()
