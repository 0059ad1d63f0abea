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
    assert set(distila.__all__) <= set(dir(distila))


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
    from distila.replay.compared_run import Settings

    monkeypatch.chdir(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    summary = distila.replay_trace("urban", "olla", settings=Settings(max_slots=200))
    assert summary.gain_pct.mean == 0, "the bundle decides as the DU's own OLLA does"
    assert summary.trace.slots == 200
    assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.parametrize("values", [{"sinr": 3}, {"cqi": [1, 2, 3]}])
def test_a_report_made_by_hand_is_checked(values):
    with pytest.raises(distila.InputError, match=next(iter(values))):
        distila.KpiReport.of([1, 2], **values)


def test_gymnasium_finds_the_environment_in_any_order_of_imports(elsewhere):
    pytest.importorskip("gymnasium")
    for first in ("import distila.training, gymnasium", "import gymnasium, distila.training"):
        code = f"import sys; {first}; print(gymnasium.spec('distila/LinkAdaptation-v0').id, 'torch' in sys.modules)"
        assert python(code, elsewhere).stdout == "distila/LinkAdaptation-v0 False\n", first
