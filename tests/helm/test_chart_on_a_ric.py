"""What the chart puts into the pod, run as the pod would: the ConfigMap as the kubelet lays it out, CONFIG_FILE, and
the stand-ins of a near-RT RIC around it. Needs librmr."""

import json
import signal
import subprocess
import sys
import time

import httpx
import pytest

from distila.replay.ric.demo import has_rmr
from distila.replay.ric.ric import Ric
from distila.xapp.descriptor import parse_descriptor
from helm.chart import render

PATIENCE_S = 30.0


def eventually(condition):
    """Wait until something that another process brings about is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def configmap(ric, **config):
    """The files of the rendered ConfigMap, for a RIC whose parts are on this machine."""
    for item in render({"config": {**ric.config(), **config}}):
        if item["kind"] == "ConfigMap":
            return item["data"]
    raise AssertionError("the chart has no ConfigMap")


def lay_out(folder, data, generation):
    """As the kubelet does: a directory for each version, files that are links, one link swapped."""
    hidden = folder / f"..{generation}"
    hidden.mkdir(parents=True)
    for name, text in data.items():
        (hidden / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    new = folder / "..data_tmp"
    new.symlink_to(hidden.name)
    new.rename(folder / "..data")


@pytest.mark.slow
@pytest.mark.skipif(not has_rmr(), reason="librmr_si.so or ricxappframe is not installed")
def test_the_pod_becomes_ready_registers_what_the_chart_says_takes_an_update_and_ends(tmp_path):
    with Ric(tmp_path) as ric:
        folder = tmp_path / "config"
        lay_out(folder, configmap(ric), 1)
        environment = {**ric.environment(), "CONFIG_FILE": str(folder / "config-file.json")}
        xapp = subprocess.Popen(
            [sys.executable, "-m", "distila.xapp.cli", "run", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        url = f"http://127.0.0.1:{ric.xapp_http_port}/ric/v1"

        def ask(path):
            try:
                return httpx.get(url + path, timeout=2)
            except httpx.HTTPError:
                return None

        def ready():
            answer = ask("/health/ready")
            return answer is not None and answer.status_code == httpx.codes.OK

        try:
            eventually(ready)
            registered = next(iter(ric.appmgr.registered.values()))
            descriptor = parse_descriptor(json.loads(registered["config"]), "what it registered")
            assert [port.name for port in descriptor.messaging.ports] == ["http", "rmrdata", "rmrroute"]
            lay_out(folder, configmap(ric, guard={"max_mcs": 9}), 2)
            eventually(lambda: ask("/config").json()["controls"]["guard"]["max_mcs"] == 9)
            assert ready()
            xapp.send_signal(signal.SIGTERM)
            out, _ = xapp.communicate(timeout=15)  # the grace of the chart
            assert xapp.returncode == 0
            assert json.loads(out)["platform"]["reload"] == {"configuration_applied": 1}
            assert ric.appmgr.registered == {}
        finally:
            xapp.kill()
            xapp.communicate()
