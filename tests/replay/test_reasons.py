"""Every reason that the code counts has its line: the search reads the syntax tree, f-strings too."""

import ast
from pathlib import Path

import grpc
import pytest

from distila.replay.reasons import FAMILIES, REASONS, explain
from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.kpi.observations import MEASURED

ROOT = Path(__file__).parents[2]
GROUP_OF = {
    "dropped": "dropped",
    "guarded": "guarded",
    "noticed": "noticed",
    "outcomes": "outcomes",
    "lost": "lost",
    "_lost": "lost",
    "unhandled": "lost",  # of RMR: a part of lost
    "rejected": "lost",  # control messages that the E2 node cannot read: a part of lost
}
PASSED_ON = {
    # Where the key is the reason of a `Rejected`, or of `_veto`: those are found where they are raised or called.
    "rejection.reason",
    "xapp/policy/guard.py: reason",
    # The causes of the service model: `test_every_cause_of_the_service_model_has_its_line`.
    "_cause(rejection.cause)",
    "_word(answer.cause)",
}
ANY = "*"


def sources():
    for part in ("xapp", "replay"):
        for path in sorted((ROOT / part).rglob("*.py")):
            if "importers" not in path.parts:  # importers count what they skip of a file, in words of their own
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def values(node, function, where):
    """The strings that an expression can be; `ANY` at the end stands for what an f-string fills in."""
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return values(node.body, function, where) | values(node.orelse, function, where)
    if isinstance(node, ast.JoinedStr):
        assert isinstance(node.values[0], ast.Constant), f"{where}: {ast.unparse(node)}: begin it with what it is"
        return {node.values[0].value + ANY}
    source = ast.unparse(node)
    if source in PASSED_ON or f"{where}: {source}" in PASSED_ON:
        return set()
    found = set()
    if isinstance(node, ast.Name):
        for other in ast.walk(function):
            if isinstance(other, ast.Assign) and [ast.unparse(target) for target in other.targets] == [node.id]:
                found |= values(other.value, function, where) or {None}
            if isinstance(other, ast.For) and isinstance(other.target, ast.Tuple) and isinstance(other.iter, ast.Tuple):
                names = [ast.unparse(one) for one in other.target.elts]
                if node.id in names:
                    found |= {row.elts[names.index(node.id)].value for row in other.iter.elts}
    assert found, f"{where}: counted by {source}: say in PASSED_ON where its values come from"
    return found - {None}


def counted():
    """(file, group, reason) of each ``counter[reason] += n``; group None: by whoever catches or sums it up."""
    for where, tree in sources():
        for function in functions(tree):
            for node in ast.walk(function):
                if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
                    name = ast.unparse(node.target.value).rsplit(".", 1)[-1]
                    if name in GROUP_OF:
                        for reason in values(node.target.slice, function, where):
                            yield where, GROUP_OF[name], reason
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                    called = ast.unparse(node.func).rsplit(".", 1)[-1]
                    if called == "Rejected":
                        yield where, None, node.args[0].value
                    elif called == "_veto":
                        yield where, "guarded", node.args[0].value
                    elif called == "Counter":
                        yield from ((where, None, keyword.arg) for keyword in node.keywords)


COUNTED = sorted(set(counted()), key=str)


def test_the_search_finds_constants_variables_and_f_strings():
    found = {(group, reason) for _, group, reason in COUNTED}
    assert {
        ("dropped", "superseded"),
        ("dropped", "out_of_order"),  # chosen by a condition, in a variable
        ("noticed", "harq_beyond_total"),  # of a loop over a tuple
        ("noticed", f"invalid_{ANY}"),
        ("lost", f"control_stream_{ANY}"),
        ("lost", f"rmr_{ANY}"),
        ("guarded", "clamped"),
        (None, "malformed_e2ap"),
        (None, "unanswered"),
    } <= found
    assert len(found) > 70


@pytest.mark.parametrize(("where", "group", "reason"), COUNTED)
def test_every_reason_that_the_code_counts_has_its_line(where, group, reason):
    groups = [group] if group else list(REASONS)
    if reason.endswith(ANY):
        prefix = reason.removesuffix(ANY)
        assert [family for family in FAMILIES if family.group in groups and family.prefix == prefix], where
    else:
        # What is wrong with an answer to a control request is counted as ``answer_`` and the reason.
        assert any(explain(one, reason) for one in groups) or f"answer_{reason}" in REASONS["lost"], where


def test_every_cause_of_the_service_model_has_its_line():
    causes = [name.removeprefix("CAUSE_").lower() for name in pb.Cause.keys()]  # noqa: SIM118
    assert [cause for cause in causes if not explain("outcomes", cause)] == []


def test_a_family_names_what_the_reason_ends_in():
    assert explain("noticed", "invalid_cqi") == "reported cqi out of range: taken as not measured"
    assert all(explain("noticed", f"invalid_{name}") for name in MEASURED)
    for code in grpc.StatusCode:
        assert code.name.lower() in explain("lost", f"control_stream_{code.name.lower()}")
        assert code.name.lower() in explain("lost", f"connection_{code.name.lower()}")
    assert explain("guarded", "invalid_cqi") == ""
    assert explain("dropped", "gremlins") == ""


def test_every_family_is_counted_somewhere():
    counted_prefixes = {reason.removesuffix(ANY) for _, _, reason in COUNTED if reason.endswith(ANY)}
    assert {family.prefix for family in FAMILIES} <= counted_prefixes


def test_every_line_says_something():
    assert all(text.strip() for group in REASONS.values() for text in group.values())
