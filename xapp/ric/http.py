"""The xApp's HTTP server, on a thread of its own."""

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
    """Serves routers over HTTP. The port is bound at once, requests are served from `start` on.

    Args:
        host: address to listen on.
        port: to listen on; 0: any free port, which the attribute `port` then holds.
        routers: the routes to serve.

    Raises:
        InputError: the port is not available.
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
        """Add routers. Slow handlers must be plain functions, which run on threads of their own."""
        for router in routers:
            self._app.include_router(router)

    def start(self) -> None:
        """Start to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Answer the pending requests, then close the port."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * _STOP_S)
        self._socket.close()
