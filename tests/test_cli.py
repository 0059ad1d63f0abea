"""The command line: what it prints, what it writes, and how it says no. Every test is a process of its own."""

import functools
import json
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from distila import replay
from distila.xapp.policy.check import PolicyCheck

TRACE = Path(replay.__file__).parent / "traces" / "urban.trace"
COMMANDS = {"bench", "policy", "replay", "run", "trace"}


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600, check=False)


def distila(*arguments: object) -> subprocess.CompletedProcess[str]:
    return python("-m", "distila.xapp.cli", *map(str, arguments))


def answer(*arguments: object) -> dict[str, Any]:
    """The one JSON object on stdout, nothing around it."""
    done = distila(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def error_line(*arguments: object) -> str:
    """The one line on stderr with which bad input is refused."""
    return checked_error_line(distila(*arguments))


def checked_error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


# ---------------------------------------------------------------- finding one's way


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments: tuple[str, ...]) -> None:
    done = distila(*arguments)
    assert done.returncode == 0
    first_lines = [line.split() for line in done.stdout.splitlines() if re.match(r"  \S", line)]
    listed = {name: summary for name, *summary in first_lines}
    assert set(listed) >= COMMANDS
    assert all(listed.values()), "each with a summary"
    missing = {command for command, summary in listed.items() if summary[:2] == ["(not", "installed:"]}
    assert not missing & COMMANDS
    assert not missing or find_spec("torch") is None, "only the commands of the workshop may be missing"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str) -> None:
    done = distila(command, "--help")
    assert done.returncode == 0
    assert f"distila {command}" in done.stdout


@pytest.mark.parametrize(("typed", "says"), [("replya", "; did you mean 'replay'?"), ("zzz", "trace, train")])
def test_an_unknown_command_lists_the_commands_and_suggests_the_nearest(typed: str, says: str) -> None:
    line = error_line(typed)
    assert f"no command {typed!r}; there are ablation, bench, " in line
    assert line.endswith(says)


def test_help_imports_no_library_of_a_command() -> None:
    heavy = ("torch", "pyarrow", "plotly", "onnxruntime", "sionna", "typer", "numpy", "gymnasium", "pydantic")
    code = "import sys; from distila.xapp.cli import main; main(['--help']); "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


def test_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert distila("--version").stdout == f"distila {version('distila')}\n"


def test_an_unknown_command_lists_those_there_are() -> None:
    line = error_line("replya")
    assert "'replya'" in line
    assert all(command in line for command in COMMANDS)


def test_an_unknown_option_is_a_usage_error() -> None:
    done = distila("replay", "--no-such-option")
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- bad input: one line, status 2


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    assert str(tmp_path / "none.trace") in error_line("replay", "--trace", tmp_path / "none.trace", "--out", tmp_path)
    assert str(tmp_path / "none.trace") in error_line("trace", "info", tmp_path / "none.trace")


@pytest.mark.parametrize(
    "command",
    [
        ("replay", "--out", "out", "--trace"),
        ("trace", "info"),
        ("bench", "loop", "--trace"),
        ("bench", "replay", "--trace"),
        ("rollout", "simulate", "healthy", "--out", "out", "--trace"),
        ("rollout", "aa", "--trace"),
    ],
)
def test_an_unknown_trace_lists_what_was_looked_at_and_what_ships(tmp_path: Path, command: tuple[str, ...]) -> None:
    line = checked_error_line(python("-m", "distila.xapp.cli", *command, "urbn", cwd=tmp_path))
    ships = "single_transmission, two_transmissions, urban, urban_256qam"
    assert f"urbn: no such channel trace: there is no file {tmp_path / 'urbn'}, and distila ships {ships}" in line
    assert line.endswith("; did you mean 'urban'?")
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_ships_goes_by_its_name(tmp_path: Path) -> None:
    assert answer("trace", "info", "urban") == answer("trace", "info", TRACE)
    answer("replay", "--trace", "urban", "--slots", 50, "--out", tmp_path)


def test_a_file_that_is_not_there_is_named_in_the_same_words_everywhere(tmp_path: Path) -> None:
    none = tmp_path / "none.yaml"
    for option in (["--config", none], ["--du", none]):
        line = error_line("replay", "--trace", "urban", "--out", tmp_path / "out", *option)
        assert line == f"error: {none}: no such file"
    assert f"no such rollout plan: {tmp_path} is a directory, and distila ships" in error_line(
        "rollout", "plan", tmp_path
    )
    assert f"no such channel trace: {tmp_path} is a directory" in error_line("trace", "info", tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_truncated_trace(tmp_path: Path, keep: float) -> None:
    cut = tmp_path / "cut.trace"
    whole = TRACE.read_bytes()
    cut.write_bytes(whole[: int(keep * len(whole))])
    assert str(cut) in error_line("replay", "--trace", cut, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("polciy: olla\n", ["polciy"]),
        ("guard:\n  max_msc: 3\n", ["guard.max_msc"]),
        ("guard:\n  min_mcs: 9\n  max_mcs: 3\n", ["guard", "min_mcs = 9"]),
        ("e2:\n  endpoint: nowhere\n", ["e2.endpoint"]),
        ("loop: 3\n", ["loop"]),
        ("- a list\n", []),
        ("a: [\n", ["not YAML"]),
    ],
)
def test_a_wrong_configuration_names_file_and_field(tmp_path: Path, text: str, names: list[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    line = error_line("run", "--config", config)
    assert all(name in line for name in [str(config), *names]), line


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    assert "none.yaml" in error_line("run", "--config", tmp_path / "none.yaml")


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan", "inf"])
def test_a_wrong_speed(tmp_path: Path, speed: str) -> None:
    line = error_line("replay", "--trace", TRACE, "--out", tmp_path / "out", "--speed", speed)
    assert f"--speed {speed}" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", [("policy", "info"), ("policy", "check"), ("bench", "loop", "--policy"), ("run", "--policy")]
)
def test_a_policy_that_is_not_there(command: tuple[str, ...]) -> None:
    line = error_line(*command, "nonsense")
    assert "nonsense" in line
    assert "olla, student" in line, "what ships is listed"


def test_a_damaged_bundle(tmp_path: Path) -> None:
    from distila.xapp.policy.bundle import BUNDLES

    for name in ("manifest.json", "policy.onnx"):
        (tmp_path / name).write_bytes((BUNDLES.find("olla") / name).read_bytes())
    with (tmp_path / "policy.onnx").open("ab") as graph:
        graph.write(b"\0")
    done = distila("policy", "check", tmp_path)
    assert done.returncode == 1, "the check was made, and the answer is no"
    assert done.stderr.startswith(f"rejected: {tmp_path / 'policy.onnx'}: sha256")
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'policy.onnx'}: sha256" in error_line("run", "--policy", tmp_path)


def test_an_out_that_cannot_be_written_is_rejected_before_the_replay(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--out" in error_line("replay", "--trace", TRACE, "--out", tmp_path / "file")
    assert "cannot be written" in error_line(
        "trace",
        "import",
        "table",
        write_csv(tmp_path),
        "--mapping",
        write_mapping(tmp_path),
        "--out",
        tmp_path / "file/t",
    )


def test_options_of_a_closed_loop_are_rejected_for_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_mapping(tmp_path, kind="kpi")
    answer("trace", "import", "table", write_csv(tmp_path), "--mapping", tmp_path / "mapping.yaml", "--out", log)
    for option in (["--transport", "grpc"], ["--period", "20"], ["--against", "nonsense"], ["--external"]):
        assert option[0] in error_line("replay", "--trace", log, "--out", tmp_path / "out", *option)


def test_a_delay_that_outlives_every_decision_is_rejected(tmp_path: Path) -> None:
    assert "valid for 18" in error_line("replay", "--trace", TRACE, "--out", tmp_path, "--delay", 18)
    patient = tmp_path / "patient.yaml"
    patient.write_text("loop: {valid_for_extra_slots: 100}")
    options = ["--out", tmp_path, "--delay", 18, "--slots", 100, "--config", patient]
    assert answer("replay", "--trace", TRACE, *options)["answered_share"] > 0.5


def test_settings_of_the_du_come_from_a_file(tmp_path: Path) -> None:
    du = tmp_path / "du.yaml"
    du.write_text("harq_rtt_slots: 4\ncqi_period_slots: 10\n")
    summary = answer("replay", "--trace", TRACE, "--out", tmp_path, "--slots", 50, "--du", du, "--period", 2)
    assert summary["settings"]["du"]["harq_rtt_slots"] == 4
    assert summary["settings"]["du"]["period_slots"] == 2
    du.write_text("harq_rrt_slots: 4")
    assert "harq_rrt_slots" in error_line("replay", "--trace", TRACE, "--out", tmp_path, "--du", du)


def test_an_unknown_bler_model_is_rejected_with_those_there_are(tmp_path: Path) -> None:
    line = error_line("replay", "--trace", TRACE, "--out", tmp_path, "--bler", "smoth")
    assert line == "error: smoth: no such BLER model: there are sionna, smooth; did you mean 'smooth'?"


def test_an_interrupted_replay_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distila.xapp.cli", "replay", "--trace", str(TRACE), "--out", str(tmp_path)]
    command += ["--transport", "grpc", "--external"]
    # A shell's background job is born deaf to SIGINT.
    listens = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listens) as process:
        assert process.stderr is not None
        assert "waiting for an xApp" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read().strip().endswith("interrupted")


def write_csv(folder: Path) -> Path:
    path = folder / "table.csv"
    path.write_text("t,c,a,n,m\n0,7,5,1,9\n10,8,6,0,9\n20,9,7,2,10\n")
    return path


def write_mapping(folder: Path, kind: str = "channel") -> Path:
    columns = {"time": "t", "cqi": "c"}
    if kind == "kpi":
        columns |= {"harq_ack": "a", "harq_nack": "n", "mcs": "m"}
    path = folder / "mapping.yaml"
    path.write_text(json.dumps({"kind": kind, "time_unit": "ms", "columns": columns}))
    return path


@pytest.mark.parametrize("endpoint", ["nowhere", "host:123456"])
def test_a_wrong_endpoint_on_the_command_line(endpoint: str) -> None:
    assert "endpoint" in error_line("run", "--e2", endpoint)


# ---------------------------------------------------------------- answers


def test_policy_info() -> None:
    facts = answer("policy", "info", "olla")
    assert facts["contract"] == "distila-policy/1"
    assert (facts["actions"], facts["state_size"], facts["mcs_tables"]) == (29, 3, [1, 2, 3])
    assert facts["manifest"]["sha256"] == facts["sha256"]
    assert facts["columns"] == len(facts["manifest"]["columns"])


def test_policy_check_says_what_it_checked_and_how_fast_the_graph_is() -> None:
    facts = answer("policy", "check", "olla", "--runs", 10)
    assert facts["checks_passed"] == ["sha256", "contract", "tensor shapes", "64 golden vectors"]
    assert set(facts["latency_us"]) == {"1_ue", "10_ue", "100_ue"}
    assert all(0 < us["p50"] <= us["p99"] for us in facts["latency_us"].values())
    assert (facts["kind"], facts["shape_passed"]) == ("policy-check", True)


def test_policy_check_prints_the_shape_and_fails_by_it_only_when_strict() -> None:
    done = distila("policy", "check", "student", "--runs", 10)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "a fresh, higher CQI never lowers the MCS FAILED" in text
    assert "worst: CQI" in text
    assert "MCS over a fresh CQI" in text
    strict = distila("policy", "check", "student", "--runs", 10, "--strict", "--json")
    assert (strict.returncode, strict.stderr) == (1, "")
    found = PolicyCheck.model_validate_json(strict.stdout)
    assert not found.shape_passed
    assert found.shape.cqi_order.falling > 0


def test_replay_writes_summary_and_report_and_repeats_exactly(tmp_path: Path) -> None:
    run = ("replay", "--trace", TRACE, "--policy", "olla", "--slots", 200, "--seed", 3, "--out")
    printed = answer(*run, tmp_path / "a")
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary == printed
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["report.html", "summary.json"]
    assert "</html>" in (tmp_path / "a" / "report.html").read_text()
    for side in ("policy", "against"):
        assert {"goodput_mbps", "first_tx_bler", "residual_bler", "mean_mcs"} <= set(summary[side])
    assert set(summary["gain_pct"]) >= {"mean", "ci95"}
    assert len(summary["gain_pct"]["ci95"]) == 2
    assert {"p50", "p99", "max"} <= set(summary["latency_us"])
    ues = summary["trace"]["ues"]
    assert (summary["indications"], summary["decisions"], summary["trace"]["slots"]) == (200, 200 * ues, 200)
    assert summary["dropped"] == {}
    # The shipped OLLA against the DU's own: the same law on the same luck.
    assert summary["gain_pct"]["mean"] == 0
    again = answer(*run, tmp_path / "b")
    assert {**again, "latency_us": None} == {**summary, "latency_us": None}


def test_replay_for_a_person_is_a_table_and_where_the_report_is(tmp_path: Path) -> None:
    done = distila("replay", "--trace", TRACE, "--slots", 50, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "goodput per UE [Mbit/s]" in done.stdout
    assert f"report: {tmp_path / 'report.html'}" in done.stdout


def test_bench_loop_times_every_stage() -> None:
    result = answer("bench", "loop", "--ues", 5, "--reports", 1000)
    assert set(result["stages_us"]) == {"decode", "state", "infer", "guard", "encode"}
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]
    assert result["ue_decisions_per_s"] > 0
    assert (result["ues"], result["reports"], result["dropped"], result["guarded"]) == (5, 1000, {}, {})


def test_trace_info_of_the_bundled_trace() -> None:
    facts = answer("trace", "info", TRACE)
    assert facts["format"] == "distila.channel-trace/1"
    assert facts["ues"] > 1
    assert facts["slot_us"] > 0
    low, median, high = facts["sinr_db_min_median_max"]
    assert low < median < high


# ---------------------------------------------------------------- packages that are not installed


BLOCKER = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from distila.xapp.cli import main
main({arguments})
"""


def without(packages: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`distila` where these packages cannot be found."""
    return python("-c", BLOCKER.format(packages=packages.split(), arguments=list(arguments)))


@pytest.mark.parametrize(
    ("command", "package"),
    [("replay", "pyarrow"), ("replay", "plotly"), ("replay", "jinja2"), ("trace", "pyarrow"), ("bench", "pyarrow")],
)
def test_a_missing_package_is_named_with_its_install_command(command: str, package: str) -> None:
    line = checked_error_line(without(package, command))
    assert f"`distila {command}` needs the package '{package}'" in line
    assert "pip install 'distila[replay]'" in line


OFFLINE = "pyarrow plotly jinja2 torch sionna onnx scipy matplotlib"


@pytest.mark.parametrize("arguments", [("run", "--help"), ("policy", "info", "olla"), ("--version",)])
def test_the_runtime_needs_none_of_the_offline_packages(arguments: tuple[str, ...]) -> None:
    assert without(OFFLINE, *arguments).returncode == 0


def test_help_says_what_is_not_installed_and_how_to_get_it() -> None:
    done = without(OFFLINE, "--help")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    assert "not installed: pip install 'distila[replay]'" in lines["replay"]
    assert "not installed" not in lines["run"] + lines["policy"]
