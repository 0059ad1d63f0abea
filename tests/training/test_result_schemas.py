"""The JSON schemas of result files in docs/schemas: those of the models, and what the commands write fits them."""

import json

import jsonschema
import pytest

from distila.replay.compared_run import ReplayOptions
from distila.replay.comparison import replay_channel
from distila.replay.summary import ClosedLoopSummary, OpenLoopSummary
from distila.replay.trace import ChannelTrace, bundled_trace
from distila.training import result_schemas
from distila.xapp.errors import InputError
from distila.xapp.result_file import ResultFile, read_result


@pytest.mark.parametrize("name", result_schemas.MODELS)
def test_the_schema_in_the_documentation_is_that_of_the_model(name):
    assert result_schemas.path(name).read_text("utf-8") == result_schemas.text(name), "run `make schemas`"
    jsonschema.Draft202012Validator.check_schema(result_schemas.schema(name))


def test_there_is_a_schema_for_nothing_else():
    assert {path.name for path in result_schemas.FOLDER.iterdir()} == {
        f"{name}.schema.json" for name in result_schemas.MODELS
    }


def test_kinds_of_result_files_are_distinguished():
    kinds = [
        model.model_fields["kind"].default for model in result_schemas.MODELS.values() if issubclass(model, ResultFile)
    ]
    assert len(kinds) == len(set(kinds))


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    out = tmp_path_factory.mktemp("replay")
    trace = ChannelTrace.load(bundled_trace())
    replay_channel(bundled_trace(), trace, "olla", "olla", ReplayOptions(max_slots=60), out)
    return out / "summary.json"


def test_results_of_a_replay_fit_the_schema_and_are_read_back(summary):
    jsonschema.validate(json.loads(summary.read_text()), result_schemas.schema("replay-closed-loop"))
    assert read_result(ClosedLoopSummary, summary).json_text() == summary.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version 1 of the result file 'closed-loop'; this distila reads version 2: read it with the"),
        ({"version": None}, "version None of the result file 'closed-loop'; this distila reads version 2"),
        ({"kind": "results"}, "a result file of kind 'results'; expected kind 'closed-loop'"),
        ({"gain [%]": 3}, "gain \\[%\\]"),
        ({"seed": "many"}, "seed"),
    ],
)
def test_a_file_of_another_version_or_kind_is_one_clear_line(summary, tmp_path, change, message):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(json.loads(summary.read_text()) | change))
    with pytest.raises(InputError, match=message) as caught:
        read_result(ClosedLoopSummary, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1]", "{}", '{"kind": "closed-loop"}'])
def test_a_file_that_is_no_result_file_is_said_to_be_none(tmp_path, content):
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(InputError, match="not a result file of distila, it has no kind and version; expected kind"):
        read_result(ClosedLoopSummary, path)


def test_the_summary_of_another_kind_of_replay_is_not_taken(summary):
    with pytest.raises(InputError, match="expected kind 'open-loop'"):
        read_result(OpenLoopSummary, summary)
