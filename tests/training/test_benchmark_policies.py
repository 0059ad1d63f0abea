"""Policies by name: every form, every refusal, tuned settings; bundles in the simulator decide as the xApp would, and
networks as they are.

The bundle of OLLA that ships and the baseline `srsran-olla` are two programs for one algorithm, so under the same
conditions they must agree to the last bit, wherever they sit, as long as reports come every slot and act at once.
"""

import hashlib
import json
import pickle
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from distila.training import baselines
from distila.training.baselines import BASELINES
from distila.training.benchmark.episode import Episode, EpisodePlan, run_episode
from distila.training.benchmark.policies import GENIES, REFERENCE, BundlePolicy, PolicySpec, parse_policy
from distila.training.benchmark.sizes import Sizes
from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.policy import NetworkPolicy
from distila.training.network.store import NETWORK_FILE, NETWORKS, save_network
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Decision
from distila.training.sim.scenario import Scenario, families
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.bundle import load_bundle

pytest.importorskip("sionna")

OLLA_BUNDLE = Path(str(files("distila.xapp.policy"))) / "bundles" / "olla"
SIZES = Sizes(links=12, duration_ms=300, warmup_ms=50, bank_rows=4, bank_slots=256)
GLOBAL = {"target": 0.2, "step_on_nack_db": 0.4}
OF_FAMILY = {"target": 0.05, "step_on_nack_db": 0.1}
TUNED = {name: {"global": {}, "families": {}} for name in BASELINES if name not in GENIES}
TUNED["olla"] = {"global": GLOBAL, "families": {"tuned_one": OF_FAMILY}}
PLAIN = {}
NASTY = {
    "snr_db": {"uniform": [-4, 20]},
    "interference": {"share": 0.5},
    "link": {
        "mcs_table": 2,
        "prbs": {"choice": [52, 13]},
        "prb_hold_slots": 50,
        "dtx_probability": 0.03,
        "harq_rtt_slots": 5,
        "bler_slope": {"uniform": [0.7, 1.4]},
        "bler_shift_db": {"normal": [0, 0.7]},
    },
    "cqi": {"table": 2, "share": 0.5, "period_slots": 20, "delay_slots": 3},
    "traffic": {"full_buffer_share": 0.5, "file_bytes": 20000, "files_per_s": 30},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("banks")


@pytest.fixture(autouse=True)
def tuned(monkeypatch):
    monkeypatch.setattr(baselines, "_tuned", lambda: TUNED)


def a_scenario(**settings):
    return Scenario.model_validate({"name": "made_up", "channels": [{"model": "TDL-A"}], **settings})


def run(policy, cache, **settings):
    spec = policy if isinstance(policy, PolicySpec) else parse_policy(policy)
    return run_episode(EpisodePlan(a_scenario(**settings), spec, Split.TEST, 0, SIZES, cache))


def assert_same(one, other):
    for field in fields(Episode):
        if field.name != "elapsed_s":
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            assert np.array_equal(ours, theirs, equal_nan=True), field.name


def edited_bundle(folder, **changes):
    """OLLA's graph under a manifest that says something else about it."""
    folder.mkdir()
    manifest = json.loads((OLLA_BUNDLE / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "policy.onnx").write_bytes((OLLA_BUNDLE / "policy.onnx").read_bytes())
    return folder


def kept_network(path, seed=0, **config):
    """The file of an untrained network."""
    torch.manual_seed(seed)
    save_network(PolicyNetwork(NetworkConfig(**{"hidden": (8,), **config})), path, {})
    return path


def as_actions(*kinds):
    return [{"kind": kind, "value": mcs if kind == "mcs" else 0} for mcs, kind in enumerate(kinds)]


# --- name[:variant][@seat] ---


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_sits_in_the_du_with_its_globally_tuned_settings(name):
    spec = parse_policy(name)
    assert (spec.name, spec.kind, spec.base, spec.variant, spec.seat) == (name, "baseline", name, "global", "du")


@pytest.mark.parametrize(
    ("text", "base", "variant", "seat"),
    [
        ("salad:global", "salad", "global", "du"),
        ("salad:family", "salad", "family", "du"),
        ("salad:default", "salad", "default", "du"),
        ("salad@du", "salad", "global", "du"),
        ("salad@xapp", "salad", "global", "xapp"),
        ("bler-window:family@xapp", "bler-window", "family", "xapp"),
        ("srsran-olla:default@du", "srsran-olla", "default", "du"),
        ("genie-target@du", "genie-target", "global", "du"),
    ],
)
def test_variant_and_seat_are_parts_of_the_name(text, base, variant, seat):
    spec = parse_policy(text)
    assert (spec.name, spec.kind, spec.base, spec.variant, spec.seat) == (text, "baseline", base, variant, seat)


@pytest.mark.parametrize(
    ("text", "base", "variant", "target", "seat"),
    [
        ("olla@10%", "olla", "global", 0.1, "du"),
        ("srsran-olla@1%", "srsran-olla", "global", 0.01, "du"),
        ("salad@0.5%@xapp", "salad", "global", 0.005, "xapp"),
        ("thompson@xapp@49%", "thompson", "global", 0.49, "xapp"),
        ("olla:default@29%@du", "olla", "default", 0.29, "du"),
        ("genie-target@7%", "genie-target", "global", 0.07, "du"),
    ],
)
def test_a_bler_target_is_part_of_the_name(text, base, variant, target, seat):
    spec = parse_policy(text)
    assert (spec.name, spec.base, spec.variant, spec.seat) == (text, base, variant, seat)
    assert (spec.takes_target, spec.target_bler) == (True, target)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_without_a_target_is_given_that_of_the_comparison_if_it_takes_one(name):
    spec = parse_policy(name)
    assert spec.target_bler is None
    assert spec.takes_target is (name not in ("illa", "genie"))
    given = spec.at_target(0.05)
    assert given.name == name
    assert given.target_bler == (0.05 if spec.takes_target else None)
    assert spec.takes_target or given == spec


def test_a_policy_with_a_target_of_its_own_keeps_it_whatever_is_compared():
    textbook = parse_policy("olla@10%")
    assert textbook.at_target(0.3) == textbook
    assert textbook.name == "olla@10%"


def test_what_has_no_column_for_a_target_stands_beside_every_target_as_it_is():
    for text in ("student", "bundle:olla", "illa", "olla:family"):
        spec = parse_policy(text)
        assert not spec.takes_target
        assert spec.at_target(0.1) == spec


def test_blanks_around_a_name_do_not_matter():
    assert parse_policy("  olla@xapp ") == parse_policy("olla@xapp")


def test_the_reference_is_the_tuned_olla_in_the_du():
    spec = parse_policy(REFERENCE)
    assert (spec.name, spec.base, spec.variant, spec.seat) == ("olla", "olla", "global", "du")


@pytest.mark.parametrize(("suffix", "seat"), [("", "xapp"), ("@xapp", "xapp"), ("@du", "du"), ("/", "xapp")])
def test_a_bundle_is_a_directory_and_sits_in_the_xapp(suffix, seat):
    spec = parse_policy(f"{OLLA_BUNDLE}{suffix}")
    assert spec.name == f"{OLLA_BUNDLE}{suffix}"
    assert (spec.kind, Path(spec.base), spec.variant, spec.seat) == ("bundle", OLLA_BUNDLE, "", seat)
    assert spec.settings("tuned_one") == {}


def test_a_bundles_digest_tells_graphs_and_manifests_apart(tmp_path):
    same = edited_bundle(tmp_path / "same")
    other = edited_bundle(tmp_path / "other", actions=as_actions(*["native"] * NUM_MCS))
    digests = [parse_policy(str(path)).digest for path in (OLLA_BUNDLE, same, other)]
    assert digests[0] == digests[1]
    assert digests[2] != digests[0], "the same graph, but its actions mean something else"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ola", ["'ola'", "olla", "genie", "directory"]),
        ("olla@ru", ["'olla@ru'", "'ru'", "du", "xapp"]),
        ("olla:best", ["'olla:best'", "'best'", "global", "family", "default"]),
        ("olla:best@xapp", ["'best'"]),
        ("genie@xapp", ["'genie@xapp'", "genie", "late"]),
        ("genie-target:default@xapp", ["genie"]),
        ("ola:family", ["'ola:family'", "bundle has no variant", "olla"]),
        (f"{OLLA_BUNDLE}:global", ["no variant"]),
        (str(OLLA_BUNDLE.parent), ["no policy bundle", "manifest.json"]),
        ("", ["policy"]),
        ("olla@0.4%", ["'olla@0.4%'", "'0.4'", "0.5 to 49"]),
        ("olla@50%", ["'50'", "0.5 to 49"]),
        ("olla@nan%", ["'nan'", "0.5 to 49"]),
        ("olla@ten%@xapp", ["'olla@ten%@xapp'", "'ten'", "percentage"]),
        ("olla@10", ["'10'", "such as 10%"]),
        ("olla@10%@20%", ["'10%'", "each once"]),
        ("olla@du@xapp", ["'du'", "each once"]),
        ("illa@10%", ["'illa@10%'", "illa takes no BLER target", "salad", "thompson"]),
        ("genie@10%", ["takes no BLER target", "genie-target"]),
        ("olla:family@10%", ["'olla:family@10%'", "all seen families"]),
        ("bundle:olla@10%", ["the bundle takes no BLER target", "target_bler"]),
    ],
)
def test_an_unknown_policy_is_rejected_in_one_line(text, says):
    with pytest.raises(InputError) as error:
        parse_policy(text)
    line = str(error.value)
    assert "\n" not in line
    for word in says:
        assert word in line


def test_a_bundle_in_the_du_must_decide_by_itself(tmp_path):
    shy = edited_bundle(tmp_path / "shy", actions=as_actions(*["mcs"] * (NUM_MCS - 1), "native"))
    assert parse_policy(str(shy)).seat == "xapp"
    with pytest.raises(InputError, match="MCS"):
        parse_policy(f"{shy}@du")


def test_a_damaged_bundle_is_rejected_when_it_is_named(tmp_path):
    path = edited_bundle(tmp_path / "bundle")
    (path / "policy.onnx").write_bytes(b"not a graph")
    with pytest.raises(InputError, match=r"policy\.onnx"):
        parse_policy(str(path))


@pytest.mark.parametrize("folder", ["me@home", "12:30"])
def test_a_bundles_directory_may_have_any_name(tmp_path, folder):
    path = edited_bundle(tmp_path / folder)
    assert parse_policy(str(path)).base == str(path)
    assert parse_policy(f"{path}@du").seat == "du"


@pytest.mark.parametrize(("suffix", "seat"), [("", "xapp"), ("@xapp", "xapp"), ("@du", "du")])
def test_a_network_is_a_file_or_a_trainings_directory_and_sits_in_the_xapp(tmp_path, suffix, seat):
    path = kept_network(tmp_path / NETWORK_FILE)
    edited_bundle(tmp_path / "bundle")  # as a training leaves it there, too
    for named in (path, tmp_path):
        spec = parse_policy(f"{named}{suffix}")
        assert spec.name == f"{named}{suffix}"
        assert (spec.kind, Path(spec.base), spec.variant, spec.seat) == ("network", path, "", seat)
        assert spec.settings("tuned_one") == {}
        assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_directory_that_is_a_bundle_is_a_bundle(tmp_path):
    kept_network(edited_bundle(tmp_path / "both") / NETWORK_FILE)
    assert parse_policy(str(tmp_path / "both")).kind == "bundle"


@pytest.mark.parametrize("name", ["me@home.pt", "12:30"])
def test_a_networks_file_may_have_any_name(tmp_path, name):
    path = kept_network(tmp_path / name)
    assert (parse_policy(str(path)).base, parse_policy(f"{path}@du").seat) == (str(path), "du")


def test_a_network_that_ships_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("distila.training.benchmark.policies.NETWORKS", replace(NETWORKS, folders=tmp_path / "shipped"))
    path = kept_network(tmp_path / "shipped" / "tutor.pt")
    for text, seat in (("tutor", "xapp"), ("tutor@du", "du")):
        spec = parse_policy(text)
        assert (spec.kind, Path(spec.base), spec.seat) == ("network", path, seat)
    with pytest.raises(InputError, match=r"'nobody': no such .*: bundle:olla, student; .* ship: tutor$"):
        parse_policy("nobody")
    path.unlink()
    with pytest.raises(InputError, match=r"'tutor': no such .*: bundle:olla, student; .* ship: none$") as error:
        parse_policy("tutor")
    assert "\n" not in str(error.value)


def test_a_networks_digest_is_that_of_its_file(tmp_path):
    paths = [kept_network(tmp_path / f"{seed}.pt", seed) for seed in (0, 1)]
    digests = [parse_policy(str(path)).digest for path in paths]
    assert digests == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert digests[0] != digests[1]


def test_a_network_that_changes_under_a_benchmark_is_rejected(tmp_path):
    spec = parse_policy(str(kept_network(tmp_path / "net.pt")))
    spec.make("made_up")
    kept_network(tmp_path / "net.pt", seed=1)
    with pytest.raises(InputError, match=r"net\.pt: changed since"):
        spec.make("made_up")


@pytest.mark.parametrize("actions", ["mcs_offset", "both"])
def test_a_network_in_the_du_must_decide_by_itself(tmp_path, actions):
    path = kept_network(tmp_path / "net.pt", actions=actions)
    assert parse_policy(str(path)).seat == "xapp"
    with pytest.raises(InputError, match="all actions must be MCS"):
        parse_policy(f"{path}@du")


def test_a_damaged_network_is_rejected_when_it_is_named(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"net\.pt: not a network"):
        parse_policy(str(tmp_path / "net.pt"))


# --- settings ---


def test_variants_have_the_settings_tuned_over_all_families_for_one_or_none():
    assert parse_policy("olla").settings("tuned_one") == GLOBAL
    assert parse_policy("olla").settings("elsewhere") == GLOBAL
    assert parse_policy("olla:global@xapp").settings("tuned_one") == GLOBAL
    assert parse_policy("olla:family").settings("tuned_one") == OF_FAMILY
    assert parse_policy("olla:default").settings("tuned_one") == {}


def test_settings_of_a_family_that_was_not_tuned_are_rejected_by_name():
    with pytest.raises(InputError, match=r"olla.*'elsewhere'.*tuned_one"):
        parse_policy("olla:family").settings("elsewhere")


def test_a_baseline_that_was_never_tuned_says_how(monkeypatch):
    monkeypatch.setattr(baselines, "_tuned", lambda: {})
    with pytest.raises(InputError, match=r"salad.*distila benchmark tune"):
        parse_policy("salad").settings("tuned_one")
    assert parse_policy("salad:default").settings("tuned_one") == {}


@pytest.mark.parametrize("variant", ["", ":global", ":family", ":default"])
@pytest.mark.parametrize("name", GENIES)
def test_genies_have_nothing_to_tune(name, variant):
    assert parse_policy(name + variant).settings("elsewhere") == {}


AT_TARGETS = {
    "1": {"settings": {"step_on_nack_db": 0.3, "cqi_position": 0.0}},
    "10": {"settings": {"step_on_nack_db": 0.1, "cqi_position": 0.5}},
}


def test_settings_at_a_target_are_those_tuned_at_it_and_else_at_the_nearest(monkeypatch):
    monkeypatch.setitem(TUNED, "olla", TUNED["olla"] | {"targets": {"by_target": AT_TARGETS}})
    for target, step, position in ((0.1, 0.1, 0.5), (0.01, 0.3, 0.0), (0.2, 0.1, 0.5), (0.02, 0.3, 0.0)):
        found = parse_policy("olla").at_target(target).settings("tuned_one")
        assert found == {"target": target, "step_on_nack_db": step, "cqi_position": position}
    assert parse_policy("olla@10%@xapp").settings("elsewhere") == parse_policy("olla@10%").settings("tuned_one")
    assert parse_policy("olla").settings("tuned_one") == GLOBAL, "without a target all is as it was"


def test_what_was_tuned_at_no_target_has_its_defaults_but_for_the_target():
    assert parse_policy("salad@5%").settings("tuned_one") == {"target": 0.05}
    assert parse_policy("salad:default@5%").settings("tuned_one") == {"target": 0.05}
    assert parse_policy("genie-target@5%").make("tuned_one").settings.target == 0.05


def test_thresholds_of_the_bler_window_lie_around_the_target(monkeypatch):
    assert parse_policy("bler-window@20%").settings("") == pytest.approx({"lower": 0.1, "upper": 0.3})
    tuned = {"10": {"settings": {"lower": 0.08, "upper": 0.15, "memory": 0.0}}}
    monkeypatch.setitem(TUNED, "bler-window", {"global": {}, "families": {}, "targets": {"by_target": tuned}})
    assert parse_policy("bler-window@20%").settings("") == pytest.approx({"lower": 0.16, "upper": 0.3, "memory": 0.0})


def test_settings_reach_the_policy_on_top_of_its_defaults():
    tuned, default = (parse_policy(name).make("tuned_one").settings for name in ("olla:family", "olla:default"))
    assert (tuned.target, tuned.step_on_nack_db) == (0.05, 0.1)
    assert tuned.max_offset_db == default.max_offset_db


def test_nobody_can_change_what_was_tuned():
    parse_policy("olla").settings("tuned_one")["target"] = 0.9
    parse_policy("olla:family").settings("tuned_one")["target"] = 0.9
    assert (GLOBAL["target"], OF_FAMILY["target"]) == (0.2, 0.05)


def test_every_run_has_a_policy_of_its_own():
    spec = parse_policy("olla")
    assert spec.make("tuned_one") is not spec.make("tuned_one")


def test_a_baseline_on_trial_has_the_settings_on_trial():
    spec = PolicySpec.trial("olla", {"target": 0.3})
    assert (spec.base, spec.seat, spec.settings("elsewhere")) == ("olla", "du", {"target": 0.3})
    assert spec.make("elsewhere").settings.target == 0.3
    with pytest.raises(InputError, match="aim"):
        PolicySpec.trial("olla", {"aim": 0.3}).make("elsewhere")


def test_specs_travel_to_other_processes():
    for spec in (parse_policy("olla:family@xapp"), parse_policy(str(OLLA_BUNDLE)), PolicySpec.trial("illa", {})):
        assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_settings_that_ship_make_policies_for_families_that_may_be_seen(monkeypatch):
    monkeypatch.undo()
    for name, found in baselines._tuned().items():
        at_targets = (found["targets"] or {"by_target": {}})["by_target"].values()
        for settings in (found["global"], *found["families"].values(), *(each["settings"] for each in at_targets)):
            assert BASELINES[name](**settings).name == name
        assert all(not families()[family].unseen for family in found["families"])


# --- a bundle is the very policy that the xApp runs ---


@pytest.mark.parametrize("settings", [PLAIN, NASTY], ids=["plain", "nasty"])
@pytest.mark.parametrize("seat", ["xapp", "du"])
def test_the_bundle_of_olla_decides_exactly_like_the_baseline(cache, settings, seat):
    made_with = load_bundle(OLLA_BUNDLE).manifest.training
    same = {
        "target": made_with["target_bler"],
        **{k: made_with[k] for k in ("step_on_nack", "max_offset", "initial_cqi")},
    }
    in_the_du = run(PolicySpec.trial("srsran-olla", same), cache, **settings)
    assert_same(run(f"{OLLA_BUNDLE}@{seat}", cache, **settings), in_the_du)
    assert in_the_du.bits.sum() > 0
    assert in_the_du.first_nack.sum() > 0


def test_a_bundle_that_leaves_every_choice_to_the_du_is_the_dus_olla(cache, tmp_path):
    reference = run("olla", cache)
    for kind, share in (("native", 0), ("mcs_offset", 1)):
        idle = edited_bundle(tmp_path / kind, actions=as_actions(*[kind] * NUM_MCS))
        found = run(str(idle), cache)
        assert_same(found, replace(reference, decided_share=float(share)))


def test_actions_of_several_kinds_are_distinguished_link_by_link(tmp_path):
    kinds = ["native"] * 10 + ["mcs_offset"] * 4 + ["mcs"] * (NUM_MCS - 14)
    actions = as_actions(*kinds)
    for action in actions[10:14]:
        action["value"] = -2
    policy = BundlePolicy(load_bundle(edited_bundle(tmp_path / "mixed", actions=actions)))
    conditions = Conditions(
        a_scenario(snr_db={"uniform": [0, 30]}), 12, Split.TEST, 0, 200, banks=Banks(4, 256, 0, tmp_path)
    )
    simulator = Simulator(conditions, native=parse_policy("olla").make(""))
    plain = BundlePolicy(load_bundle(OLLA_BUNDLE))
    for either in (policy, plain):
        either.start(conditions.cell(), conditions.generator("policy"))
    seen = set()
    for _ in range(60):
        report = simulator.report
        mcs, decision = plain.decide(report).value, policy.decide(report)
        assert isinstance(decision, Decision)
        expected = [(NATIVE, 0) if m < 10 else (MCS_OFFSET, -2) if m < 14 else (MCS, m) for m in mcs.tolist()]
        assert list(zip(decision.kind.tolist(), decision.value.tolist(), strict=True)) == expected
        seen |= {kind for kind, _ in expected}
        simulator.step(decision)
    assert seen == {NATIVE, MCS_OFFSET, MCS}


def test_a_bundle_decides_nothing_in_a_cell_with_another_mcs_table(cache, tmp_path):
    picky = edited_bundle(tmp_path / "picky", mcs_tables=[2])
    assert_same(run(str(picky), cache), replace(run("olla", cache), decided_share=0.0))
    assert run(str(picky), cache, link={"mcs_table": 2}).decided_share == 1
    with pytest.raises(InputError, match=r"picky.*MCS table 2.*has 1"):
        run(f"{picky}@du", cache)


@pytest.mark.parametrize("seat", ["xapp", "du"])
def test_a_network_in_a_file_decides_as_the_network(cache, tmp_path, monkeypatch, seat):
    spec = parse_policy(f"{kept_network(tmp_path / 'net.pt')}@{seat}")
    found = run(spec, cache)
    torch.manual_seed(0)
    network = PolicyNetwork(NetworkConfig(hidden=(8,)))
    real = PolicySpec.make
    monkeypatch.setattr(
        PolicySpec, "make", lambda self, family: NetworkPolicy(network) if self == spec else real(self, family)
    )
    assert_same(found, run(spec, cache))
    assert found.first_ack.sum() > 0


def test_a_network_decides_nothing_in_a_cell_with_another_mcs_table(cache, tmp_path):
    path = kept_network(tmp_path / "picky.pt", mcs_table=2)
    assert_same(run(str(path), cache), replace(run("olla", cache), decided_share=0.0))
    assert run(str(path), cache, link={"mcs_table": 2}).decided_share == 1
    with pytest.raises(InputError, match=r"picky\.pt.*MCS table 2.*has 1"):
        run(f"{path}@du", cache)


def test_beneath_a_policy_with_a_target_the_du_holds_the_same_target():
    plan = EpisodePlan(a_scenario(), parse_policy("olla@5%@xapp"), Split.TEST, 0, SIZES)
    assert plan.native() == parse_policy("olla").at_target(0.05)
    assert replace(plan, policy=parse_policy("olla@xapp")).native() == parse_policy("olla")


def test_a_bundle_forgets_between_runs(cache):
    assert_same(run(str(OLLA_BUNDLE), cache), run(str(OLLA_BUNDLE), cache))


# --- where it sits matters for timing alone ---


@pytest.mark.parametrize("settings", [PLAIN, NASTY], ids=["plain", "nasty"])
@pytest.mark.parametrize("name", ["illa", "olla", "srsran-olla", "bler-window"])
def test_with_reports_every_slot_and_no_delay_both_seats_are_one(cache, name, settings):
    assert_same(run(f"{name}@xapp", cache, **settings), run(f"{name}@du", cache, **settings))


@pytest.mark.parametrize("name", ["salad", "thompson", "genie", "genie-target"])
def test_so_it_is_for_policies_that_gamble_or_know_given_the_same_dice(tmp_path, name):
    def conditions():
        return Conditions(a_scenario(), 8, Split.TEST, 0, 300, banks=Banks(4, 256, 0, tmp_path))

    du = Simulator(conditions(), native=parse_policy(name).make(""))
    du.run(300)
    seat = conditions()
    xapp, policy = Simulator(seat), parse_policy(name).make("")
    policy.start(seat.cell(), seat.generator("native"))
    while xapp.slot < 300:
        xapp.step(policy.decide(xapp.report))
    for counter in ("bits", "resource", "first_ack", "first_nack", "mean_mcs"):
        assert torch.equal(getattr(du.counters, counter), getattr(xapp.counters, counter)), counter


@pytest.mark.parametrize("name", ["srsran-olla@xapp", str(OLLA_BUNDLE)])
def test_until_the_first_decision_acts_an_xapps_cell_is_the_dus_tuned_olla(cache, name):
    too_late = {"e2": {"period_slots": 20, "delay_slots": 10_000}}
    assert_same(run(name, cache, **too_late), run("olla", cache, **too_late))


def test_late_decisions_change_the_result(cache):
    slow = {"e2": {"period_slots": 20, "delay_slots": 10}}
    late, at_once = run("srsran-olla@xapp", cache, **slow), run("srsran-olla", cache, **slow)
    assert not np.array_equal(late.bits, at_once.bits)


def test_a_bundle_with_the_name_of_a_baseline_is_named_by_its_prefix():
    assert parse_policy("olla").kind == "baseline"
    for text, seat in (("bundle:olla", "xapp"), ("bundle:olla@du", "du")):
        spec = parse_policy(text)
        assert (spec.name, spec.kind, Path(spec.base), spec.seat) == (text, "bundle", OLLA_BUNDLE, seat)
    with pytest.raises(InputError, match=r"^nobody: no such policy bundle: .* ships olla, student"):
        parse_policy("bundle:nobody")
    with pytest.raises(InputError, match="seat 'ru'"):
        parse_policy("bundle:olla@ru")
