"""Scenarios from YAML: what is refused and how it is said; the families of the benchmark; the domain of training."""

import pytest
import yaml

from distila.training.sim.distribution import Distribution
from distila.training.sim.scenario import (
    Scenario,
    families,
    find_scenario,
    load_scenario,
    training_domain,
)
from distila.xapp.errors import InputError

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


@pytest.mark.parametrize("scenario", [*families().values(), training_domain()], ids=lambda s: s.name)
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
        ({"link": {"prbs": 300}}, "link.prbs = 300: must be at most 275"),
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


# --- families and domain ---


def test_families_are_those_of_the_benchmark_seen_ones_first():
    names = list(families())
    assert len(names) == 13
    assert [families()[n].unseen for n in names] == [False] * 10 + [True] * 3
    assert all(families()[n].name == n and families()[n].description for n in names)


@pytest.mark.parametrize("scenario", SEEN, ids=lambda s: s.name)
def test_every_seen_family_lies_within_the_domain(scenario):
    assert scenario.outside(training_domain()) == []


@pytest.mark.parametrize("scenario", UNSEEN, ids=lambda s: s.name)
def test_no_unseen_family_does_and_not_by_one_setting_alone(scenario):
    found = scenario.outside(training_domain())
    assert len(found) >= 3
    # What makes it unseen is the channel, and each channel by itself.
    for index, its_channel in enumerate(scenario.channels):
        assert its_channel not in training_domain().channels
        assert len([name for name in found if name.startswith(f"channels.{index}.")]) >= 2


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("unseen_carrier", {"channels.0.carrier_ghz", "channels.0.subcarrier_khz"}),
        ("unseen_channel", {"channels.0.model", "channels.1.model"}),
        (
            "unseen_numerology_load",
            {"channels.0.subcarrier_khz", "link.harq_rtt_slots", "traffic.files_per_s"},
        ),
    ],
)
def test_unseen_families_are_unseen_by_what_they_are_named_for(name, reasons):
    assert reasons <= set(families()[name].outside(training_domain()))


def test_domain_is_no_unseen_scenario_and_lies_within_itself():
    assert not training_domain().unseen
    assert training_domain().outside(training_domain()) == []


@pytest.mark.parametrize(
    ("change", "outside"),
    [
        ({"snr_db": {"uniform": [0, 40]}}, ["snr_db"]),
        ({"link": {"harq_rtt_slots": 5}}, ["link.harq_rtt_slots"]),
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
def test_outside_names_the_settings(change, outside):
    assert Scenario.model_validate({**MINIMAL, **change}).outside(training_domain()) == outside


def test_geometry_is_within_a_range_that_holds_its_clipping():
    ours = Scenario(name="a", channels=[{"model": "UMi"}], snr_db="geometry")
    narrow = Scenario(name="b", channels=[{"model": "UMi"}], snr_db={"uniform": [0, 28]})
    wide = Scenario(name="b", channels=[{"model": "UMi"}], snr_db={"uniform": [-8, 32]})
    assert ours.outside(wide) == []
    assert ours.outside(narrow) == ["snr_db"]


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
