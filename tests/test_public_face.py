"""What `import distila` offers: light, complete, typed by name, and not confused by a user's own folders."""

import subprocess
import sys

import pytest

import distila

FIVE_LINES = """
import distila

loop = distila.DecisionLoop(distila.load_bundle("student"), guard_config=distila.GuardConfig(deadline_us=None))
report = distila.KpiReport.of(rnti=[0x4601, 0x4602], cqi=[9, 13])
print(loop.decide(report).value)
"""


def python(code, cwd):
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def elsewhere(tmp_path):
    """A directory that holds packages of a user's own, with the names of our folders."""
    for name in ("training", "xapp", "replay", "schemas"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the user has a {name} of their own')")
    return tmp_path


def test_the_lines_at_the_head_of_the_readme_run_anywhere(elsewhere):
    done = python(FIVE_LINES, elsewhere)
    assert done.stderr == ""
    low, high = (int(word) for word in done.stdout.strip("[]\n").split())
    assert 0 <= low < high <= 28, "a better channel gets a higher MCS"


def test_importing_it_imports_no_other_library(elsewhere):
    code = (
        "import sys, distila; print([name for name in ('numpy', 'torch', 'pydantic', 'typer') if name in sys.modules])"
    )
    assert python(code, elsewhere).stdout == "[]\n"


def test_every_name_is_there(elsewhere):
    pytest.importorskip("torch")
    pytest.importorskip("gymnasium")
    code = "import distila; print([getattr(distila, name) is None for name in distila.__all__].count(False))"
    assert python(code, elsewhere).stdout == f"{len(distila.__all__)}\n"
    assert dir(distila) == sorted(distila.__all__)


def test_the_names_of_the_runtime_need_neither_the_replays_nor_the_trainings_libraries(elsewhere):
    code = (
        "import sys, distila\n"
        "for name in ('torch', 'pyarrow', 'plotly', 'gymnasium'): sys.modules[name] = None\n"
        "print(distila.Bundle, distila.DecisionLoop, distila.write_bundle, distila.__version__)\n"
        "for name in ('replay_trace', 'LinkAdaptationEnv'):\n"
        "    try: getattr(distila, name)\n"
        "    except ModuleNotFoundError as error: print(error)\n"
    )
    first, replay, training = python(code, elsewhere).stdout.splitlines()
    assert "distila.xapp.loop.DecisionLoop" in first
    assert replay.startswith("distila.replay_trace needs the package ")
    assert replay.endswith(": pip install 'distila[replay]'")
    assert training.startswith("distila.LinkAdaptationEnv needs the package ")
    assert training.endswith(": pip install 'distila[training]'")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        distila.nothing  # noqa: B018


def test_a_trace_is_replayed_without_writing_anything(elsewhere, monkeypatch):
    monkeypatch.chdir(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    summary = distila.replay_trace("urban", "olla", settings=distila.ReplayOptions(max_slots=200))
    assert summary.gain_pct.mean == 0, "the bundle decides as the DU's own OLLA does"
    assert summary.trace.slots == 200
    assert sorted(elsewhere.rglob("*")) == before


def test_what_the_names_take_has_a_name_too():
    pytest.importorskip("torch")
    pytest.importorskip("gymnasium")
    for name in distila.__all__:
        documentation = getattr(distila, name).__doc__
        assert len(documentation or "") > 40, name
    assert distila.Action(kind="mcs", value=9).value == 9
    loop = distila.DecisionLoop(distila.load_bundle("olla"), distila.LoopConfig(ue_capacity=2))
    assert loop.decide(distila.KpiReport.of([1, 2, 3])) is None, "more UEs than the loop has room for"
    assert distila.ReplayOptions(du=distila.DuConfig(period_slots=20)).du.period_slots == 20


def test_a_loop_decides_on_every_report_that_has_no_number():
    loop = distila.DecisionLoop(distila.load_bundle("olla"))
    for cqi in (9, 9, 13):
        assert loop.decide(distila.KpiReport.of([1], cqi=[cqi])) is not None
    assert loop.stats.indications == 3
    assert not loop.stats.dropped
    assert not loop.stats.noticed.keys() - {"ue_new"}


def test_a_number_that_came_before_is_dropped_also_between_reports_without():
    loop = distila.DecisionLoop(distila.load_bundle("olla"))
    numbers = (None, 7, None, 8, 8, 7, None)
    decided = [loop.decide(distila.KpiReport.of([1], cqi=[9], sequence=number)) is not None for number in numbers]
    assert decided == [True, True, True, True, False, False, True]
    assert loop.stats.dropped == {"duplicate": 1, "out_of_order": 1}
    assert "indications_missed" not in loop.stats.noticed


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sinr": 3}, "sinr: no such measurement"),
        ({"cqi": [1, 2, 3]}, "cqi: 3 values for 2 UEs"),
        ({"cqi": [9, 99]}, "cqi = 99: outside 0..15"),
        ({"cqi": "nine"}, "cqi = 'nine': not a number"),
        ({"sinr_db": -60.5}, "sinr_db = -60.5: outside -60..80"),
        ({"ri": 0}, "ri = 0: outside 1..8"),
        ({"mcs_table": 4}, "mcs_table = 4: outside 1..3"),
        ({"period_slots": 0}, "period_slots = 0: outside 1..1000000"),
        ({"sequence": -1}, "sequence = -1: outside 0.."),
        ({"rnti": [-1, 2]}, "rnti = -1: outside 1..65535"),
        ({"rnti": [1, 70000]}, "rnti = 70000: outside 1..65535"),
        ({"rnti": [5, 5]}, "rnti = 5: given twice"),
    ],
)
def test_a_report_made_by_hand_is_checked(values, says):
    with pytest.raises(distila.InputError) as caught:
        distila.KpiReport.of(**{"rnti": [1, 2], **values})
    assert says in str(caught.value)


def test_what_is_not_measured_is_in_no_range():
    assert distila.KpiReport.of([1, 2], cqi=[float("nan"), 3], ri=float("nan")).num_ues == 2


def test_gymnasium_finds_the_environment_in_any_order_of_imports(elsewhere):
    pytest.importorskip("gymnasium")
    for first in ("import distila.training, gymnasium", "import gymnasium, distila.training"):
        code = f"import sys; {first}; print(gymnasium.spec('distila/LinkAdaptation-v0').id, 'torch' in sys.modules)"
        assert python(code, elsewhere).stdout == "distila/LinkAdaptation-v0 False\n", first
