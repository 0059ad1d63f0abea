"""`distila rollout`: A/B rollouts in the store that running xApps use, and offline."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from getpass import getuser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from pydantic import ValidationError

from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.findings import finding_table
from distila.xapp.commands.terminal import print_json, print_records, print_table, stdout
from distila.xapp.errors import InputError, first_error
from distila.xapp.rollout.audit import Entry, Replayed, read_log, replayed, verify
from distila.xapp.rollout.controller import RolloutStatus, carry_out, check_policies
from distila.xapp.rollout.machine import Command, Summary, event_words, summary
from distila.xapp.rollout.metric_text import METRIC_NAMES, margin_text
from distila.xapp.rollout.open_store import open_store
from distila.xapp.rollout.plan import PLANS, load_plan
from distila.xapp.rollout.store import Store, StoreLostError
from distila.xapp.rollout_config import RolloutConfig

app = application(SUMMARIES["rollout"].text, no_args_is_help=True)

_Result = TypeVar("_Result")

_TIMEOUT_S: Final = 10.0
_RECENT: Final = 100
"""Number of the latest audit entries in which the latest verdict is looked for."""

_Plan = Annotated[str, typer.Argument(help="YAML file of a plan, or the name of a plan that ships.")]
_StoreOption = Annotated[
    str, typer.Option("--store", help="Store of the rollout: a SQLite file, or redis://HOST:PORT/DB.")
]
_Url = Annotated[
    str | None,
    typer.Option(
        "--url", help="HTTP endpoint of an xApp, instead of --store; the token is read from $DISTILA_ROLLOUT_TOKEN."
    ),
]
_Who = Annotated[str | None, typer.Option("--who", help="Operator, for the audit log; default: your user name.")]
_Why = Annotated[str, typer.Option("--why", help="Reason, for the audit log.")]
_Version = Annotated[
    int | None, typer.Option("--expect", help="Reject the command if the rollout is not at this version.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_DEFAULT_STORE: Final = RolloutConfig().store


@app.command()
def plan(
    plan: Annotated[
        str | None,
        typer.Argument(help="YAML file, or the name of a plan that ships; without it, list the plans that ship."),
    ] = None,
    json: _Json = False,
) -> None:
    """Check a plan and its bundles, and show its stages and metrics; or list the plans that ship."""
    if plan is None:
        plans = {name: load_plan(name).description for name in PLANS.names()}
        if json:
            print_json({"plans": plans})
        else:
            print_table("plans that ship", ["name", "what"], [[name, text] for name, text in plans.items()])
        return
    loaded = load_plan(plan)
    digests = check_policies(loaded)
    if json:
        print_json({"plan": loaded.model_dump(mode="json"), "digest": loaded.digest, "policies": digests})
        return
    rows = []
    for stage in loaded.stages:
        shares = ", ".join(f"{arm} {share:g} %" for arm, share in stage.share_pct.items()) or "shadow"
        control = "" if stage.shadow else f"{stage.control_share_pct:g} %"
        longest = f" to {stage.max_intervals}" if stage.max_intervals else ""
        rows.append([stage.name, shares, control, f"{stage.min_intervals}{longest}", str(stage.min_exposure)])
    title = f"{loaded.name}: unit {loaded.unit}, an evaluation every {loaded.interval_s:g} s"
    print_table(title, ["stage", "challengers", "control", "intervals", "least exposure"], rows)
    print_table(
        "metrics",
        ["metric", "role", "better", "margin"],
        [[METRIC_NAMES[m.name], m.role, m.better, margin_text(m)] for m in loaded.metrics],
    )
    for policy, digest in digests.items():
        stdout.print(f"policy {policy}: {digest[:12] + '..., checked' if digest else 'no override'}", soft_wrap=True)
    for note in loaded.notes():
        print_records([["-", note]])


@app.command()
def start(
    plan: _Plan,
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Start a rollout: the xApps that use the store begin its first stage."""
    command = Command(action="start", plan=load_plan(plan), who=who or getuser(), why=why, expected_version=expect)
    _carry_out(command, store, url, json)


@app.command()
def status(store: _StoreOption = _DEFAULT_STORE, url: _Url = None, json: _Json = False) -> None:
    """Show the status of the rollout and the latest verdict."""
    found = _request(url, "status") if url is not None else _with_store(store, _status)
    fields = found.model_dump(mode="json", exclude_unset=True)
    if json:
        print_json(fields)
        return
    shown = ("status", "version", "run", "stage_name", "share_pct", "interval", "stage_intervals", "withdrawn")
    rows = [[name.replace("_", " "), str(fields[name])] for name in (*shown, "promoted", "reason") if name in fields]
    print_table(f"rollout {found.run}", ["what", "value"], rows)
    if found.verdict is not None and found.verdict.findings:
        stdout.print(f"latest verdict: {event_words(found.verdict.action)}: {found.verdict.why}")
        print_table("findings: challenger minus control", *finding_table(found.verdict.findings, found.metrics))


@app.command()
def promote(
    to_end: Annotated[bool, typer.Option(help="Make the challenger the policy of all UEs now.")] = False,
    challenger: Annotated[str | None, typer.Option(help="Challenger to promote, if there are several.")] = None,
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Go to the next stage, or to the end of the rollout."""
    command = Command(
        action="promote",
        to_end=to_end,
        challenger=challenger,
        who=who or getuser(),
        why=why,
        expected_version=expect,
    )
    _carry_out(command, store, url, json)


@app.command()
def pause(
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Stop advancing; the arms stay as they are and the guardrails stay in force."""
    _carry_out(Command(action="pause", who=who or getuser(), why=why, expected_version=expect), store, url, json)


@app.command()
def resume(
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Resume a rollout that an operator paused, or that the xApp held because it could not go on by itself."""
    _carry_out(Command(action="resume", who=who or getuser(), why=why, expected_version=expect), store, url, json)


@app.command()
def abort(
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """End the rollout: all UEs return to the champion."""
    _carry_out(Command(action="abort", who=who or getuser(), why=why, expected_version=expect), store, url, json)


@app.command()
def kill(
    store: _StoreOption = _DEFAULT_STORE, url: _Url = None, who: _Who = None, why: _Why = "", json: _Json = False
) -> None:
    """End the rollout at once; with --url even if the xApp cannot reach its store."""
    _carry_out(Command(action="kill", who=who or getuser(), why=why), store, url, json)


@app.command()
def audit(
    store: _StoreOption = _DEFAULT_STORE,
    log: Annotated[
        Path | None, typer.Option(help="Audit log saved with --json, instead of the one in the store.")
    ] = None,
    json: _Json = False,
) -> None:
    """Show the audit log, check its hash chain and compute every verdict again. Exit status 1 if anything differs."""
    if log is not None:
        entries, head = read_log(log), None
    else:
        entries, head = _with_store(store, _log_and_head)
    fault: str | None = None
    verdicts: list[Replayed] = []
    try:
        verify(entries, head)
        verdicts = replayed(entries)
    except InputError as error:
        fault = str(error)
    differing = [one.seq for one in verdicts if not one.same]
    if json:
        print_json(
            {
                "intact": fault is None,
                "fault": fault,
                "replayed": len(verdicts),
                "differing": differing,
                "entries": [entry.model_dump(mode="json") for entry in entries],
            }
        )
    else:
        print_records(
            [
                [str(entry.seq), event_words(entry.what), entry.status.replace("_", " "), f"{entry.who}: {entry.why}"]
                for entry in entries
                if entry.what != "evaluate"
            ]
        )
        stdout.print(fault or f"hash chain intact; {len(verdicts)} verdicts computed again, {len(differing)} differ")
    if fault is not None or differing:
        raise typer.Exit(1)


def _carry_out(command: Command, store: str, url: str | None, json: bool) -> None:
    if url is not None:
        body = command.model_dump(mode="json", exclude={"action"}, exclude_none=True)
        if command.action != "promote":
            body.pop("to_end", None)
        found: Summary = _request(url, command.action, body)
    else:
        found = summary(_with_store(store, lambda opened: carry_out(opened, command)[0], command.action == "start"))
    if json:
        print_json(found.model_dump(mode="json", exclude_unset=True))
    else:
        stdout.print(f"{command.action}: {found.run} is {found.status}, version {found.version}")


def _status(store: Store) -> RolloutStatus:
    state = store.load()
    recent = [] if state is None else store.audit(max(0, state.version - _RECENT))
    latest = next((entry for entry in reversed(recent) if entry.evaluation is not None), None)
    verdict = None
    if latest is not None and latest.evaluation is not None and state is not None and latest.run == state.run:
        verdict = latest.evaluation.verdict
    metrics = [] if state is None else list(state.plan.metrics)
    return RolloutStatus(**summary(state).model_dump(exclude_unset=True), verdict=verdict, metrics=metrics)


def _log_and_head(store: Store) -> tuple[list[Entry], str]:
    state = store.load()
    return store.audit(), "" if state is None else state.audit_head


def _with_store(url: str, act: Callable[[Store], _Result], create: bool = False) -> _Result:
    store = open_store(url, create)
    try:
        return act(store)
    except StoreLostError as error:
        raise InputError(str(error)) from None
    finally:
        store.close()


def _request(url: str, path: str, body: Mapping[str, object] | None = None) -> RolloutStatus:
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url {url}: expected http:// or https://")
    request = urllib.request.Request(
        f"{url.rstrip('/')}/rollout/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {RolloutConfig().token() or ''}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return RolloutStatus.model_validate_json(answer.read())
    except urllib.error.HTTPError as error:
        try:
            text = str(json.load(error)["detail"])
        except (ValueError, KeyError):
            text = error.reason
        raise InputError(f"{url}: {error.code}: {text}") from None
    except OSError as error:
        raise InputError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    except ValidationError as error:
        raise InputError(f"{url}: not an answer of an xApp's rollout: {first_error(error)}") from None


def _add_offline_commands() -> None:
    """Add the commands that need the replay, if it is installed."""
    for entry in entry_points(group="distila.rollout"):
        try:
            app.registered_commands.extend(entry.load().registered_commands)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == "distila":
                raise


_add_offline_commands()
