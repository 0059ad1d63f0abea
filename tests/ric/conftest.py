"""Shared by the tests of the platform's side: waiting, a real Redis, a second policy bundle."""

import threading
import time

import numpy as np
import pytest

from distila.replay.ric.redis_server import RedisServer
from distila.replay.ric.ric import free_ports
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import GRAPH_FILE, load_bundle, write_bundle

PATIENCE_S = 20.0


@pytest.fixture(scope="session")
def eventually():
    """Wait until something that another thread brings about is so."""

    def wait(condition, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def returned():
    """The result of a call that must end by itself: not within a certain time, but without what it could wait for."""

    def call(function):
        results = []
        thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "it waits"
        return results[0]

    return call


class Clock:
    """Stands in for the module `time`, with a monotonic clock that the test moves."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def _no_thread_goes_on():
    """redis-py goes on trying for seconds, with the random module that other tests watch."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("ric-sdl"):
            thread.join(PATIENCE_S)


@pytest.fixture
def redis(tmp_path, monkeypatch):
    """A real Redis, found where the platform says that SDL is."""
    pytest.importorskip("ricsdl", reason="the platform's SDL")
    try:
        server = RedisServer(tmp_path, free_ports(1)[0])
    except InputError as error:
        pytest.skip(str(error))
    server.start()
    monkeypatch.setenv("DBAAS_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("DBAAS_SERVICE_PORT", str(server.port))
    for name in ("DBAAS_SERVICE_SENTINEL_PORT", "DBAAS_MASTER_NAME", "DBAAS_CLUSTER_ADDR_LIST"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.stop()


def _relabelled(path, label):
    """OLLA with another digest in ``path``."""
    olla = load_bundle("olla")
    manifest = olla.manifest
    return write_bundle(
        path,
        (olla.path / GRAPH_FILE).read_bytes() + b"\x32" + bytes([len(label)]) + label.encode(),
        name=manifest.name,
        version=label,
        columns=manifest.columns,
        state_size=manifest.state_size,
        actions=manifest.actions,
        mcs_tables=manifest.mcs_tables,
        training=manifest.training,
        golden_report=np.array(manifest.golden.report, np.float32),
        golden_state=np.array(manifest.golden.state, np.float32).reshape(-1, manifest.state_size),
    )


@pytest.fixture(scope="session")
def relabelled():
    return _relabelled
