"""Configuration files, bundles and A1 policies brought to a running loop; what is wrong changes nothing."""

import json
import logging
import os
import shutil

import pytest
import yaml
from kpi_reports import kpi_report

from distila.xapp.config import RunConfig, load_config
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import MCS, NATIVE
from distila.xapp.loop import DecisionLoop
from distila.xapp.policy.bundle import BUNDLES, DEFAULT_POLICY, GRAPH_FILE, MANIFEST_FILE, load_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.ric.a1_policy import A1Policy
from distila.xapp.ric.reload import ConfigWatcher, Reloader

NO_DEADLINE = {"deadline_us": None}


def report(sequence, cell="cell"):
    return kpi_report(sequence, (1, 2), cell=cell, cqi=15)


class Running:
    """A loop under a configuration, with what steers it."""

    def __init__(self, config, bundles=None):
        self.loop = DecisionLoop(load_bundle(config.policy), config.loop, config.guard)
        self.reloader = Reloader(self.loop, config, bundles)
        self.rejections = []
        self.reloader.on_rejected = lambda what, why: self.rejections.append((what, why))
        self._sequence = 0

    def decide(self, cell="cell"):
        """Kinds and values of the next decision."""
        self._sequence += 1
        decisions = self.loop.decide(report(self._sequence, cell))
        return decisions.kind.tolist(), decisions.value.tolist()

    @property
    def highest(self):
        return max(self.decide()[1])


@pytest.fixture
def running():
    return Running(RunConfig(guard=GuardConfig(deadline_us=None)))


def policy(**fields):
    return A1Policy.model_validate_json(json.dumps(fields))


# ---------------------------------------------------------------- A1 policies


def test_a_policy_holds_from_the_next_indication_on_until_it_is_removed(running):
    assert running.highest > 9
    running.reloader.put("one", policy(max_mcs=5))
    assert running.highest == 5
    running.reloader.put("one", policy(max_mcs=7))
    assert running.highest == 7
    running.reloader.put("two", policy(cells=["other"], enabled=False))
    assert running.decide("other") == ([NATIVE] * 2, [0] * 2)
    assert running.decide()[0] == [MCS] * 2
    assert running.reloader.remove("one")
    assert running.highest > 9
    assert not running.reloader.remove("one")


def test_a_policy_that_is_rejected_leaves_the_one_before_in_force(running):
    running.reloader.put("one", policy(max_mcs=5))
    with pytest.raises(InputError, match="nonesuch"):
        running.reloader.put("one", policy(policy="nonesuch"))
    assert running.highest == 5
    assert list(running.reloader.policies) == ["one"]


def test_a_policy_may_name_the_bundle_that_decides(tmp_path, relabelled):
    other = relabelled(tmp_path / "bundles" / "other", "other")
    running = Running(RunConfig(guard=GuardConfig(deadline_us=None)), tmp_path / "bundles")
    before = running.loop.bundle.digest
    running.reloader.put("one", policy(policy="other"))
    assert running.loop.bundle.digest == other.digest
    running.reloader.put("two", policy(policy=DEFAULT_POLICY))
    assert running.loop.bundle.digest == before
    running.reloader.remove("two")
    assert running.loop.bundle.digest == other.digest
    running.reloader.remove("one")
    assert running.loop.bundle.digest == before
    assert running.reloader.counts["bundle_swapped"] == 4


# ---------------------------------------------------------------- configuration


def test_reloadable_settings_change_and_policies_stay_in_force(running):
    running.reloader.put("one", policy(max_mcs=5))
    running.reloader.configure(RunConfig(guard=GuardConfig(deadline_us=None, max_mcs=3), log_level="DEBUG"))
    assert running.highest == 5, "the policy says so, whatever the configuration"
    running.reloader.remove("one")
    assert running.highest == 3
    logging.getLogger().setLevel(logging.WARNING)


@pytest.mark.parametrize("change", [{"instance_id": "x"}, {"e2": {"cells": ["a"]}}, {"loop": {"arm": "b"}}])
def test_a_configuration_that_needs_a_restart_is_rejected_as_a_whole(running, change):
    with pytest.raises(InputError, match="a change needs a restart"):
        running.reloader.configure(RunConfig.model_validate({"guard": {**NO_DEADLINE, "max_mcs": 3}, **change}))
    assert running.highest > 9


class ConfigMap:
    """A mounted ConfigMap: files behind ``..data``, a link that is swapped."""

    def __init__(self, folder):
        self._folder = folder
        self._version = 0
        folder.mkdir()
        self.file = folder / "config-file.json"
        self.file.symlink_to("..data/config-file.json")

    def update(self, text):
        self._version += 1
        version = self._folder / f"..version-{self._version}"
        version.mkdir()
        (version / "config-file.json").write_text(text)
        fresh = self._folder / "..data_tmp"
        fresh.symlink_to(version.name)
        os.replace(fresh, self._folder / "..data")
        old = self._folder / f"..version-{self._version - 1}"
        shutil.rmtree(old, ignore_errors=True)


@pytest.fixture
def mounted(tmp_path):
    """A configuration in a ConfigMap, watched."""
    config_map = ConfigMap(tmp_path / "config")
    watchers = []

    def watch(**sections):
        config_map.update(yaml.safe_dump({"guard": NO_DEADLINE, **sections}))
        running = Running(load_config(config_map.file))
        watcher = ConfigWatcher(running.reloader, 0.02, config_map.file, lambda: load_config(config_map.file))
        watcher.start()
        watchers.append(watcher)
        return running

    yield config_map, watch
    for watcher in watchers:
        watcher.stop(1)


def test_every_swap_of_a_config_map_is_seen(mounted, eventually):
    """The platform's SDK watches the file behind the link, and misses every swap but the first."""
    config_map, watch = mounted
    running = watch()
    for limit in (3, 11, 5, 9, 4):
        config_map.update(json.dumps({"guard": {**NO_DEADLINE, "max_mcs": limit}}))
        eventually(lambda limit=limit: running.highest == limit)
    assert running.reloader.counts["configuration_applied"] == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{guard: {max_mcs: 3}, colour: blue}", "colour: no such field"),
        ("{guard: {max_mcs: three}}", "guard.max_mcs = 'three'"),
        ("{guard: {max_mcs: 3}, policy: nonesuch, instance_id: mine}", "nonesuch"),
        ("{guard: {max_mcs: 3}, http: {port: 9}}", "a change needs a restart"),
        ("{guard: [", "not YAML"),
        ("", "a change needs a restart"),
    ],
)
def test_a_configuration_that_is_wrong_is_rejected_whole_and_the_next_is_taken(mounted, eventually, text, says, caplog):
    config_map, watch = mounted
    running = watch(instance_id="mine")
    config_map.update(text)
    eventually(lambda: running.reloader.counts["configuration_rejected"] == 1)
    assert running.highest > 9
    eventually(lambda: says in caplog.text)
    assert running.rejections[0][0] == "configuration"
    config_map.update(yaml.safe_dump({"guard": {**NO_DEADLINE, "max_mcs": 6}, "instance_id": "mine"}))
    eventually(lambda: running.highest == 6)
    assert running.rejections[-1] == ("configuration", "")


def test_a_configuration_that_goes_away_leaves_the_old_one_in_force(mounted, eventually):
    config_map, watch = mounted
    running = watch()
    config_map.file.unlink()
    eventually(lambda: running.reloader.counts["configuration_rejected"] == 1)
    assert running.highest > 9


# ---------------------------------------------------------------- bundles on a volume


@pytest.fixture
def volume(tmp_path, relabelled):
    """A link to a bundle that is watched, and a second bundle."""
    shutil.copytree(BUNDLES.find("olla"), tmp_path / "first")
    relabelled(tmp_path / "second", "second")
    link = tmp_path / "policy"
    link.symlink_to("first")
    running = Running(RunConfig(policy=str(link), guard=GuardConfig(deadline_us=None)))
    watcher = ConfigWatcher(running.reloader, 0.02, None, lambda: running.reloader.config)
    watcher.start()
    yield running, link
    watcher.stop(1)


def point(link, target):
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    os.replace(fresh, link)


def test_a_bundle_that_takes_the_place_of_another_is_swapped_in(volume, tmp_path, eventually):
    running, link = volume
    for target in ("second", "first", "second"):
        point(link, target)
        digest = load_bundle(tmp_path / target).digest
        eventually(lambda digest=digest: running.loop.bundle.digest == digest)
    assert running.reloader.counts["bundle_swapped"] == 3


@pytest.mark.parametrize("file", [GRAPH_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_bundle_is_rejected_once_and_a_good_one_is_taken_afterwards(
    volume, tmp_path, eventually, file, damage
):
    running, link = volume
    before = running.loop.bundle.digest
    shutil.copytree(tmp_path / "second", tmp_path / "damaged")
    path = tmp_path / "damaged" / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    point(link, "damaged")
    eventually(lambda: running.reloader.counts["bundle_rejected"] == 1)
    assert running.loop.bundle.digest == before
    assert len(running.decide()[0]) == 2
    point(link, "second")
    eventually(lambda: running.loop.bundle.digest == load_bundle(tmp_path / "second").digest)
    assert running.reloader.counts["bundle_rejected"] == 1, "said once, not at every look"
    assert [why == "" for _, why in running.rejections] == [False, True]


def test_a_bundle_written_in_place_is_taken_when_it_is_whole(volume, tmp_path, eventually):
    """File by file, as by `kubectl cp`: in between it is refused, in the end it decides."""
    running, _ = volume
    second = tmp_path / "second"
    (tmp_path / "first" / GRAPH_FILE).write_bytes((second / GRAPH_FILE).read_bytes())
    eventually(lambda: running.reloader.counts["bundle_rejected"] >= 1)
    (tmp_path / "first" / MANIFEST_FILE).write_bytes((second / MANIFEST_FILE).read_bytes())
    eventually(lambda: running.loop.bundle.digest == load_bundle(second).digest)
