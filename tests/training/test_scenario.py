"""Scenarios from YAML: what is refused and how it is said; the families of the benchmark; the domain of training."""

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distila.training.sim.distribution import Distribution
from distila.training.sim.scenario import (
    CqiConfig,
    E2Config,
    LinkConfig,
    Scenario,
    families,
    find_scenario,
    load_scenario,
    training_domain,
    training_domain_table1,
)
from distila.training.sim.split import Split
from distila.training.sim.subrange import outside
from distila.xapp.errors import InputError
from distila.xapp.nr.mcs import mcs_table
from distila.xapp.nr.soft_combining import Carrier
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

MINIMAL = {"name": "mine", "channels": [{"model": "TDL-A"}]}
SEEN = [s for s in families().values() if not s.unseen]
UNSEEN = [s for s in families().values() if s.unseen]


def a_file(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return path


def error_line(tmp_path, text):
    """The line, without the file's name, that answers a bad file."""
    path = a_file(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


def channel(**settings):
    return {"channels": [{"model": "TDL-A", **settings}]}


# --- reading ---


def test_minimal_scenario_takes_defaults(tmp_path):
    scenario = load_scenario(a_file(tmp_path, MINIMAL))
    assert scenario.link.max_transmissions.values == (4,)
    assert scenario.channels[0].delay_spread_ns == Distribution(kind="log_uniform", values=(30.0, 300.0))
    assert scenario.channels[0].slot_us == 500


@pytest.mark.parametrize(("khz", "slot_us"), [(15, 1000), (30, 500), (60, 250), (120, 125)])
def test_slot_duration_follows_the_subcarrier_spacing(khz, slot_us):
    assert Scenario(**{**MINIMAL, **channel(subcarrier_khz=khz)}).channels[0].slot_us == slot_us


@pytest.mark.parametrize(
    "scenario", [*families().values(), training_domain(), training_domain_table1()], ids=lambda s: s.name
)
def test_yaml_round_trip(tmp_path, scenario):
    assert load_scenario(a_file(tmp_path, yaml.safe_dump(scenario.model_dump(mode="json")))) == scenario


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ({"colour": 1}, "colour: no such field"),
        ({"link": {"mcs": 3}}, "link.mcs: no such field"),
        (channel(antennas={"ports": 2}), "channels.0.antennas.ports: no such field"),
        ({"name": "With Space"}, "name = 'With Space': "),
        ({"channels": []}, "channels: "),
        (channel(model="TDL-X"), "channels.0.model = 'TDL-X': "),
        (channel(speed_kmh=-3), "channels.0.speed_kmh = -3: -3 is below 0"),
        (channel(speed_kmh="fast"), "channels.0.speed_kmh = 'fast': ['fast'] must be numbers"),
        (channel(delay_spread_ns=0), "channels.0.delay_spread_ns = 0: 0 must be above 0"),
        (
            channel(delay_spread_ns={"uniform": [300, 30]}),
            "channels.0.delay_spread_ns: uniform [300, 30] is an impossib",
        ),
        (channel(carrier_ghz=200), "channels.0.carrier_ghz = 200: "),
        (channel(carrier_ghz="high"), "channels.0.carrier_ghz = 'high': "),
        (channel(subcarrier_khz=45), "channels.0.subcarrier_khz = 45: "),
        (channel(prbs=2), "channels.0.prbs = 2: "),
        (channel(antennas={"tx": 3}), "channels.0.antennas.tx = 3: "),
        (channel(antennas={"tx": 2, "rx": 1, "max_rank": 2}), "channels.0.antennas: max_rank 2 with 2 transmit and 1"),
        (channel(antennas={"tx": 8}), "channels.0: 8 transmit antennas: TDL has no angles"),
        (channel(model="UMi", delay_spread_ns=30), "channels.0: delay_spread_ns has no meaning for UMi"),
        (channel(shadowing_db=-1), "channels.0.shadowing_db = -1: "),
        ({"snr_db": "geometry"}, "snr_db geometry needs channels among UMi, UMa, RMa only"),
        ({"interference": {"share": 1.5}}, "interference.share = 1.5: 1.5 is above 1"),
        ({"interference": {"rise_db": -3}}, "interference.rise_db = -3: -3 is below 0"),
        ({"interference": {"gap_per_burst": 0}}, "interference.gap_per_burst = 0: 0 must be above 0"),
        ({"link": {"mcs_table": 4}}, "link.mcs_table = 4: must be at most 3"),
        ({"link": {"prbs": 300}}, "link.prbs = 300: must be at most 273"),
        (
            {"link": {"prbs": {"uniform": [10, 50]}}},
            "link.prbs: {'uniform': [10, 50]} must be a whole number or a choice",
        ),
        ({"link": {"harq_rtt_slots": {"choice": [8, 65]}}}, "link.harq_rtt_slots: 65 must be at most 64"),
        ({"link": {"harq_rtt_slots": 0}}, "link.harq_rtt_slots = 0: 0 is below 1"),
        ({"link": {"processes": 0}}, "link.processes = 0: 0 is below 1"),
        ({"link": {"processes": 33}}, "link.processes = 33: must be at most 32"),
        ({"link": {"max_transmissions": 9}}, "link.max_transmissions = 9: must be at most 8"),
        ({"link": {"max_transmissions": {"choice": [4, 9]}}}, "link.max_transmissions: 9 must be at most 8"),
        ({"link": {"max_transmissions": True}}, "link.max_transmissions = True: [True] must be numbers"),
        ({"link": {"combining_efficiency": float("nan")}}, "link.combining_efficiency: nan must be finite"),
        ({"link": {"combining_efficiency": {"choice": [float("nan")]}}}, "link.combining_efficiency: nan must be"),
        ({"link": {"combining_efficiency": 1.1}}, "link.combining_efficiency = 1.1: 1.1 is above 1"),
        ({"link": {"combining_efficiency": -0.1}}, "link.combining_efficiency = -0.1: -0.1 is below 0"),
        ({"link": {"rlc": "tm"}}, "link.rlc = 'tm': "),
        ({"link": {"rlc_delay_ms": -1}}, "link.rlc_delay_ms = -1: -1 is below 0"),
        ({"link": {"carrier_layers": 5}}, "link.carrier_layers = 5: must be at most 4"),
        (
            {"link": {"prbs": {"choice": [52, 106]}, "carrier_prbs": 52}},
            "link: carrier_prbs 52 must be at least the largest allocation, prbs 106",
        ),
        (
            {**channel(antennas={"tx": 4, "rx": 4, "max_rank": 4}), "link": {"carrier_layers": 2}},
            "link.carrier_layers 2 must be at least the largest max_rank, 4",
        ),
        ({"link": {"prb_hold_slots": 0}}, "link.prb_hold_slots = 0: 0 must be above 0"),
        ({"link": {"combining": "best"}}, "link.combining = 'best': "),
        ({"link": {"dtx_probability": 2}}, "link.dtx_probability = 2: 2 is above 1"),
        ({"link": {"bler_slope": 0}}, "link.bler_slope = 0: 0 must be above 0"),
        (
            {"link": {"bler_shift_db": {"normal": [0, -1]}}},
            "link.bler_shift_db: normal [0, -1] has a negative standard",
        ),
        ({"link": None}, "link: "),
        ({"cqi": {"delay_slots": -8}}, "cqi.delay_slots = -8: -8 is below 0"),
        ({"cqi": {"delay_slots": "soon"}}, "cqi.delay_slots = 'soon': ['soon'] must be numbers"),
        ({"cqi": {"period_slots": 0}}, "cqi.period_slots = 0: 0 is below 1"),
        ({"cqi": {"period_slots": 2.5}}, "cqi.period_slots = 2.5: 2.5 must be a whole number"),
        ({"cqi": {"period_slots": 321}}, "cqi.period_slots = 321: must be at most 320"),
        ({"cqi": {"period_slots": {"choice": [40, 640]}}}, "cqi.period_slots: 640 must be at most 320"),
        ({"cqi": {"table": 4}}, "cqi.table = 4: must be at most 3"),
        ({"cqi": {"table": "other"}}, "cqi.table = 'other': ['other'] must be numbers"),
        ({"cqi": {"kind": "exact"}}, "cqi.kind = 'exact': "),
        ({"cqi": {"outage_share": 2}}, "cqi.outage_share = 2: 2 is above 1"),
        ({"cqi": {"outage_slots": 0}}, "cqi.outage_slots = 0: 0 is below 1"),
        ({"cqi": {"outage_gap_slots": -5}}, "cqi.outage_gap_slots = -5: -5 is below 1"),
        ({"cqi": {"ri_period_slots": 0}}, "cqi.ri_period_slots = 0: 0 is below 1"),
        ({"nodes": {"macro": {}}}, "nodes.macro.share: Field required"),
        ({"nodes": {"macro": {"share": 0}}}, "nodes.macro.share = 0: "),
        ({"nodes": {"macro": {"share": True}}}, "nodes.macro.share = True: must be a number"),
        (channel(carrier_ghz=True), "channels.0.carrier_ghz = True: must be a number"),
        (channel(prbs=True), "channels.0.prbs = True: must be a number"),
        ({"nodes": {"macro": {"share": -1}}}, "nodes.macro.share = -1: "),
        ({"nodes": {"macro": {"share": 1, "traffic": {}}}}, "nodes.macro.traffic: no such field"),
        ({"nodes": {"macro": {"share": 1, "link": {"mcs_table": 4}}}}, "nodes.macro.link.mcs_table = 4: must be"),
        (
            {"nodes": {"macro": {"share": 1, "link": {"max_transmissions": 9}}}},
            "nodes.macro.link.max_transmissions = 9: ",
        ),
        ({"nodes": {"macro": {"share": 1, "link": {"colour": 9}}}}, "nodes.macro.link.colour: no such field"),
        ({"nodes": {"macro": {"share": 1, "cqi": 3}}}, "nodes.macro.cqi = 3: "),
        ({"nodes": {"macro": 3}}, "nodes.macro = 3: "),
        ({"nodes": ["macro"]}, "nodes: "),
        ({"nodes": {"A macro": {"share": 1}}}, "nodes.A macro"),
        (
            {
                **channel(antennas={"tx": 4, "rx": 4, "max_rank": 4}),
                "nodes": {"macro": {"share": 1, "link": {"carrier_layers": 2}}},
            },
            "nodes.macro.link.carrier_layers 2 must be at least the largest max_rank, 4",
        ),
        (
            {"link": {"prbs": 106}, "nodes": {"macro": {"share": 1, "link": {"carrier_prbs": 52}}}},
            "nodes.macro.link: carrier_prbs 52 must be at least the largest allocation, prbs 106",
        ),
        ({"cqi": {"error_db": -0.1}}, "cqi.error_db = -0.1: -0.1 is below 0"),
        ({"e2": {"delay_slots": -1}}, "e2.delay_slots = -1: -1 is below 0"),
        ({"e2": {"not_reported": ["prbs"]}}, "e2.not_reported: 'prbs' must be one of combining"),
        (
            {"e2": {"period_slots": {"uniform": [1, 10]}}},
            "e2.period_slots: {'uniform': [1, 10]} must be a whole number",
        ),
        ({"traffic": {"files_per_s": 0}}, "traffic.files_per_s = 0: 0 must be above 0"),
        ({"traffic": {"full_buffer_share": -1}}, "traffic.full_buffer_share = -1: -1 is below 0"),
        (
            {"traffic": {"file_bytes": {"log_uniform": [0, 5]}}},
            "traffic.file_bytes: log_uniform [0, 5] must be positive",
        ),
    ],
)
def test_bad_settings_are_rejected_with_file_key_and_value(tmp_path, bad, line):
    assert line in error_line(tmp_path, {**MINIMAL, **bad})


@pytest.mark.parametrize("missing", ["name", "channels"])
def test_name_and_channels_are_needed(tmp_path, missing):
    assert error_line(tmp_path, {k: v for k, v in MINIMAL.items() if k != missing}).startswith(f"{missing}: ")


@pytest.mark.parametrize("text", ["", "null", "{}"])
def test_an_empty_file_lacks_a_name(tmp_path, text):
    assert error_line(tmp_path, text) == "name: Field required"


@pytest.mark.parametrize("text", ["[1, 2]", "3", "just words"])
def test_yaml_without_a_mapping_is_rejected(tmp_path, text):
    assert error_line(tmp_path, text).startswith("the file")


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x"])
def test_invalid_yaml_is_rejected(tmp_path, text):
    assert error_line(tmp_path, text).startswith("not YAML: ")


def test_a_missing_file_is_rejected(tmp_path):
    path = tmp_path / "none.yaml"
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert str(caught.value) == f"{path}: no such file"


def test_bytes_that_are_no_text_are_rejected(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_scenario(path)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (
            {"snr_db": {"uniform": [5, 1]}},
            "snr_db: uniform [5, 1] is an impossible range: the first is above the second",
        ),
        ({"snr_db": "high"}, "snr_db = 'high': ['high'] must be numbers"),
        ({"interference": {"burst_slots": -5}}, "interference.burst_slots = -5: -5 "),
    ],
)
def test_the_key_is_what_stands_in_the_file(tmp_path, bad, line):
    assert error_line(tmp_path, {**MINIMAL, **bad}).startswith(line)


def test_cqi_table_must_exist(tmp_path):
    assert "table" in error_line(tmp_path, {**MINIMAL, "cqi": {"table": 7}})


def test_a_file_has_at_least_one_byte(tmp_path):
    assert "file_bytes" in error_line(tmp_path, {**MINIMAL, "traffic": {"file_bytes": 0.2}})


# --- kinds of node ---

MIXTURE = {
    **MINIMAL,
    "link": {"max_transmissions": 5, "prbs": 26},
    "cqi": {"period_slots": 10},
    "nodes": {
        "macro": {"share": 3},
        "edge": {"share": 1, "link": {"max_transmissions": 1}, "cqi": {"period_slots": 1}, "e2": {"delay_slots": 0}},
    },
}


def test_a_kind_of_node_overrides_single_settings_of_the_scenario():
    kinds = Scenario.model_validate(MIXTURE).kinds
    assert list(kinds) == ["macro", "edge"]
    of = {
        name: (k.link.max_transmissions.values, k.link.prbs.values, k.cqi.period_slots.values)
        for name, k in kinds.items()
    }
    assert of == {"macro": ((5,), (26,), (10,)), "edge": ((1,), (26,), (1,))}
    assert all(kind.name == "mine" and not kind.nodes for kind in kinds.values())


def test_where_all_nodes_are_alike_the_one_kind_is_the_scenario_itself():
    scenario = Scenario.model_validate(MINIMAL)
    assert scenario.kinds == {"": scenario}
    assert scenario.drawn(Split.TRAIN, 3) == ("", scenario)


def test_a_kind_is_drawn_as_often_as_its_share_says_and_for_each_seed_the_same():
    scenario = Scenario.model_validate(MIXTURE)
    drawn = [scenario.drawn(Split.TRAIN, seed) for seed in range(800)]
    assert drawn[:20] == [scenario.drawn(Split.TRAIN, seed) for seed in range(20)]
    assert np.mean([name == "edge" for name, _ in drawn]) == pytest.approx(0.25, abs=0.04)
    assert all(kind == scenario.kinds[name] for name, kind in drawn)
    assert [name for name, _ in drawn] != [scenario.drawn(Split.TEST, seed)[0] for seed in range(800)]


def test_a_mixture_includes_what_one_kind_includes_as_a_whole():
    domain = Scenario.model_validate(MIXTURE)

    def ours(transmissions, period):
        link = {"max_transmissions": transmissions, "prbs": 26}
        return Scenario.model_validate({**MINIMAL, "link": link, "cqi": {"period_slots": period}})

    assert outside(ours(5, 10), domain) == outside(ours(1, 1), domain) == []
    # Each setting is some kind's, but no kind has both.
    assert outside(ours(5, 1), domain) == ["cqi.period_slots"]
    assert outside(domain, domain) == []
    assert outside(domain, ours(5, 10)) == ["nodes.edge.link.max_transmissions", "nodes.edge.cqi.period_slots"]


def test_longest_report_period_is_that_of_any_kind():
    nodes = {"slow": {"share": 1, "e2": {"period_slots": {"choice": [20, 400]}}}, "fast": {"share": 1}}
    assert Scenario.model_validate({**MINIMAL, "nodes": nodes}).longest_report_period_slots == 400
    assert Scenario.model_validate(MINIMAL).longest_report_period_slots == 1


def test_equal_mixtures_have_equal_hashes():
    one, same = (Scenario.model_validate(MIXTURE) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)


# --- whatever is in the file ---

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 700),
    st.floats(-1e3, 1e3),
    st.text("aé:{[#-\n ", max_size=5),
    st.just("same"),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choice", "uniform", "normal", "share", "link", "cqi", "e2", "model", "table", "prbs"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
PLACES = st.sampled_from(
    [
        *((name,) for name in Scenario.model_fields),
        *(("link", name) for name in LinkConfig.model_fields),
        *(("cqi", name) for name in CqiConfig.model_fields),
        *(("e2", name) for name in E2Config.model_fields),
        *(("nodes", "edge", section) for section in ("link", "cqi", "e2", "share", "other")),
        *(("nodes", "edge", "cqi", name) for name in CqiConfig.model_fields),
        ("nodes", "new"),
        ("channels", 0, "antennas"),
        ("channels", 0, "model"),
    ]
)


def read(path):
    """The scenario of a file, or the line that rejects it."""
    try:
        return load_scenario(path)
    except InputError as error:
        return str(error)


@given(st.lists(st.tuples(PLACES, VALUES), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_gives_a_scenario_or_one_line_that_names_it(tmp_path, changes):
    data = yaml.safe_load(yaml.safe_dump(MIXTURE))
    for place, value in changes:
        part = data
        for key in place[:-1]:
            part = part[key] if isinstance(part, list) and isinstance(key, int) and part else part
            if isinstance(part, dict):
                part = part.setdefault(key, {})
        if isinstance(part, dict):
            part[place[-1]] = value
    path = a_file(tmp_path, yaml.safe_dump(data))
    found = read(path)
    if isinstance(found, str):
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
    else:
        assert Scenario.model_validate(found.model_dump(mode="json")) == found
        assert outside(found, found) == []


# --- families and domain ---


def test_families_are_those_of_the_benchmark_seen_ones_first():
    names = list(families())
    assert len(names) == 22
    assert [families()[n].unseen for n in names] == [False] * 16 + [True] * 6
    assert all(families()[n].name == n and families()[n].description for n in names)


@pytest.mark.parametrize("scenario", SEEN, ids=lambda s: s.name)
def test_every_seen_family_lies_within_the_domain(scenario):
    assert outside(scenario, training_domain()) == []


@pytest.mark.parametrize("scenario", SEEN[:10], ids=lambda s: s.name)
def test_families_with_table_1_and_plain_harq_lie_within_the_domain_of_table_1(scenario):
    assert outside(scenario, training_domain_table1()) == []


UNSEEN_BY = {
    "unseen_carrier": {"channels.0.carrier_ghz", "channels.0.subcarrier_khz"},
    "unseen_channel": {"channels.0.model", "channels.1.model"},
    "unseen_numerology_load": {"channels.0.subcarrier_khz", "channels.0.carrier_ghz", "traffic.files_per_s"},
    "unseen_cqi_stops": {"cqi.kind", "cqi.outage_slots"},
    "unseen_rank_changes_mean_sinr": {"cqi.kind", "cqi.ri_period_slots"},
    "unseen_long_round_trip": {"link.harq_rtt_slots", "cqi.delay_slots", "cqi.table", "link.rlc"},
}
"""Settings that no kind of node of the domain has together with the family's others."""


@pytest.mark.parametrize("scenario", UNSEEN, ids=lambda s: s.name)
def test_unseen_families_are_unseen_by_what_they_are_named_for(scenario):
    for domain in (training_domain(), training_domain_table1()):
        assert len(outside(scenario, domain)) >= 2
    assert set(outside(scenario, training_domain())) >= UNSEEN_BY[scenario.name]


@pytest.mark.parametrize("name", ["unseen_carrier", "unseen_channel", "unseen_numerology_load"])
def test_what_is_unseen_for_its_channel_is_so_by_each_channel_alone(name):
    scenario = families()[name]
    found = outside(scenario, training_domain())
    for index, its_channel in enumerate(scenario.channels):
        assert its_channel not in training_domain().channels
        assert len([reason for reason in found if reason.startswith(f"channels.{index}.")]) >= 2


@pytest.mark.parametrize(
    ("setting", "lowest", "highest"),
    [
        ("cqi.period_slots", 1, 320),
        ("cqi.delay_slots", 0, 16),
        ("cqi.share", 0, 1),
        ("link.harq_rtt_slots", 1, 16),
        ("link.max_transmissions", 1, 8),
        ("link.combining_efficiency", 0, 1),
        ("link.mcs_table", 1, 3),
        ("link.prbs", 13, 273),
        ("link.processes", 8, 32),
        ("e2.period_slots", 1, 400),
    ],
)
def test_the_kinds_of_node_of_the_domain_span_what_real_nodes_do(setting, lowest, highest):
    section, name = setting.split(".")
    bounds = [getattr(getattr(kind, section), name).bounds for kind in training_domain().kinds.values()]
    assert (min(low for low, _ in bounds), max(high for _, high in bounds)) == (lowest, highest)


def test_the_domain_has_clean_nodes_of_a_kind_and_broken_ones_of_others():
    kinds = training_domain().kinds
    edge = kinds["edge_ric"]
    assert (edge.cqi.period_slots.bounds, edge.cqi.delay_slots.bounds) == ((1, 5), (0, 4))
    assert (edge.cqi.bias_db.bounds, edge.cqi.error_db.bounds) == ((0, 0), (0, 0.2))
    assert edge.e2.period_slots.bounds == (1, 2)
    assert kinds["no_cqi"].cqi.share.bounds == (0, 0)
    assert kinds["cqi_stops"].cqi.outage_share.bounds[0] > 0
    assert kinds["mean_sinr"].cqi.kind == "mean_sinr"
    assert kinds["broken_combining"].link.combining_efficiency.bounds == (0, 0.5)
    assert kinds["ocudu_satellite"].link.max_transmissions.bounds == (1, 1)
    assert {kind.link.combining for kind in kinds.values()} == {"ir", "drawn"}  # never the ideal rule
    assert all(kind.description for kind in training_domain().nodes.values())


def test_domain_is_no_unseen_scenario_and_lies_within_itself():
    assert not training_domain().unseen
    assert outside(training_domain(), training_domain()) == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"snr_db": {"uniform": [0, 40]}}, ["snr_db"]),
        ({"link": {"harq_rtt_slots": 17}}, ["link.harq_rtt_slots"]),
        # Round trips of one slot and a rare CQI are two kinds of node.
        ({"link": {"harq_rtt_slots": 1}, "cqi": {"period_slots": 320}}, ["link.harq_rtt_slots"]),
        ({"link": {"mcs_table": 2}}, []),
        ({"link": {"mcs_table": 2}, "cqi": {"table": 1}}, []),
        ({"link": {"mcs_table": {"choice": [1, 2]}}, "cqi": {"table": {"choice": [1, 2]}}}, []),
        ({"link": {"mcs_table": 3}, "cqi": {"table": 1}}, ["link.mcs_table"]),
        ({"link": {"mcs_table": 3}, "cqi": {"table": 3}}, []),
        ({"cqi": {"kind": "mean_sinr", "period_slots": 10}}, []),
        ({"cqi": {"kind": "drawn"}}, ["cqi.kind"]),
        ({"link": {"combining": "chase"}}, []),
        ({"link": {"combining": "drawn"}}, []),
        ({"link": {"combining": "ideal"}}, ["link.combining"]),
        ({"cqi": {"bias_db": {"normal": [0, 2]}}}, ["cqi.bias_db"]),
        ({"e2": {"period_slots": 3}}, ["e2.period_slots"]),
        ({"e2": {"not_reported": ["combining"]}}, ["e2.not_reported"]),
        (channel(speed_kmh=500), ["channels.0.speed_kmh"]),
        (channel(carrier_ghz=28), ["channels.0.carrier_ghz"]),
        ({"channels": [{"model": "TDL-A"}, {"model": "TDL-D"}]}, ["channels.1.model"]),
        ({}, []),
    ],
)
def test_outside_names_the_settings(change, names):
    assert outside(Scenario.model_validate({**MINIMAL, **change}), training_domain()) == names


def test_geometry_is_within_a_range_that_holds_its_clipping():
    ours = Scenario(name="a", channels=[{"model": "UMi"}], snr_db="geometry")
    narrow = Scenario(name="b", channels=[{"model": "UMi"}], snr_db={"uniform": [0, 28]})
    wide = Scenario(name="b", channels=[{"model": "UMi"}], snr_db={"uniform": [-8, 32]})
    assert outside(ours, wide) == []
    assert outside(ours, narrow) == ["snr_db"]


def test_find_scenario_takes_a_family_or_a_file(tmp_path):
    assert find_scenario("embb") is families()["embb"]
    assert find_scenario(str(a_file(tmp_path, MINIMAL))).name == "mine"
    with pytest.raises(InputError, match=r"nowhere: no such scenario: .* distila ships full_buffer_mimo, "):
        find_scenario("nowhere")
    with pytest.raises(InputError):
        find_scenario(str(tmp_path))


def test_scenario_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        training_domain().link.combining = "chase"


def test_limited_buffers_bite_in_the_family_that_is_named_for_them():
    scenario = families()["full_band_lbrm"]
    layers = max(channel.antennas.max_rank for channel in scenario.channels)
    table = mcs_table(2)
    bits = transport_block_size_bits(num_re(273), table.code_rate, table.modulation_order, layers)
    buffer_over_block = 1.5 * Carrier(273, layers, 8).lbrm_tbs_bits / bits
    assert (scenario.link.prbs.values, scenario.link.mcs_table.values) == ((273,), (2,))
    assert buffer_over_block[-1] < 1.6  # the second transmission repeats
    assert (buffer_over_block < 3).sum() >= 12
