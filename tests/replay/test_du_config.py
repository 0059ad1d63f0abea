"""Settings of the DU stand-in from a command line: YAML files and ``key=value``, and errors that name the setting."""

import pytest

from distila.replay.du_config import DuConfig, load_du_config
from distila.xapp.errors import InputError


def test_settings_come_as_key_and_value_separated_by_commas_or_given_again():
    config = load_du_config(["max_transmissions=1,rlc=um", "combining_efficiency=0.5", "carrier_prbs=null"], {})
    assert config == DuConfig(max_transmissions=1, rlc="um", combining_efficiency=0.5)


def test_settings_come_from_files_too_and_the_last_one_counts(tmp_path):
    file = tmp_path / "du.yaml"
    file.write_text("max_transmissions: 2\nprocesses: 8\n")
    assert load_du_config([str(file)], {}) == DuConfig(max_transmissions=2, processes=8)
    assert load_du_config([str(file), "processes=32"], {}).processes == 32
    assert load_du_config(["processes=32", str(file)], {}).processes == 8
    assert load_du_config([str(file)], {"processes": 4}).processes == 4


def test_a_file_without_settings_and_no_file_are_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert load_du_config([str(tmp_path / "empty.yaml")], {}) == load_du_config([], {}) == DuConfig()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("max_transmission=1", "--du max_transmission=1: no such setting; did you mean 'max_transmissions'?"),
        ("max_transmissions=9", "--du: max_transmissions = 9: Input should be less than or equal to 8"),
        ("combining_efficiency=1.5", "--du: combining_efficiency = 1.5: Input should be less than or equal to 1"),
        ("processes=33", "--du: processes = 33: Input should be less than or equal to 32"),
        ("harq_rtt_slots=65", "--du: harq_rtt_slots = 65: Input should be less than or equal to 64"),
        ("combining=irr", "--du: combining = 'irr': Input should be 'ir', 'chase' or 'ideal'"),
        ("rlc=tm", "--du: rlc = 'tm': Input should be 'am' or 'um'"),
        ("rlc=um,processes", "--du processes: expected key=value"),
        ("processes=", "--du processes=: expected key=value"),
        ("rlc=um,rlc=am", "--du rlc=um,rlc=am: rlc is given twice"),
        ("processes", "--du processes: neither key=value nor a YAML file"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        ("rlc={", "--du rlc={: not a value"),
        ("max_transmissions=yes", "--du: max_transmissions = True: must be a number"),
        ("processes=true", "--du: processes = True: must be a number"),
        ("combining_efficiency=off", "--du: combining_efficiency = False: must be a number"),
        ("olla_target_bler=yes", "--du: olla_target_bler = True: must be a number"),
        ("", "--du : expected key=value or a YAML file"),
        (" ", "--du  : expected key=value or a YAML file"),
        ("=1", "--du =1: expected key=value or a YAML file"),
        ("max transmissions=1", "--du max transmissions=1: expected key=value or a YAML file"),
        ("combining_efficiency=nan", "--du: combining_efficiency = nan: is not a number"),
        ("combining_efficiency=.nan", "--du: combining_efficiency = nan: is not a number"),
        ("rlc_delay_ms=1e9", "--du: rlc_delay_ms = 1e9: Input should be less than or equal to 10000"),
    ],
)
def test_a_wrong_setting_is_one_line(given, message):
    with pytest.raises(InputError) as error:
        load_du_config([given], {})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("processs: 8", "processs = 8: no such setting; did you mean 'processes'?"),
        ("max_transmissions: yes", "max_transmissions = True: must be a number"),
        ("processes: 0", "processes = 0: Input should be greater than or equal to 1"),
        ("- 1", "not a YAML mapping of settings of the DU stand-in"),
    ],
)
def test_a_wrong_setting_in_a_file_names_the_file(tmp_path, text, message):
    file = tmp_path / "du.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        load_du_config([str(file)], {})
    assert str(error.value) == f"{file}: {message}"


def test_an_unknown_setting_that_resembles_none_lists_them():
    with pytest.raises(InputError, match=r"^--du abc=1: no such setting; there are period_slots, .*, olla_max_offset$"):
        load_du_config(["abc=1"], {})
