"""`distila rollout`: A/B rollouts, in the store that the running xApps follow, and offline."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from getpass import getuser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from distila.xapp.commands.findings import finding_table
from distila.xapp.commands.terminal import print_json, print_table, stdout
from distila.xapp.errors import InputError
from distila.xapp.rollout.audit import read_log, replayed, verify
from distila.xapp.rollout.config import RolloutConfig
from distila.xapp.rollout.controller import check_policies, order
from distila.xapp.rollout.machine import Command, State, summary
from distila.xapp.rollout.plan import bundled_plans, load_plan
from distila.xapp.rollout.store import Store, StoreLostError, open_store

app = typer.Typer(help="A/B rollout of a policy: plan, start, watch, promote, abort; simulate.", no_args_is_help=True)

_TIMEOUT_S: Final = 10.0
_RECENT: Final = 100
"""Among so many entries of the audit log the latest verdict is looked for."""

_Plan = Annotated[str, typer.Argument(help="YAML file of a plan, or the name of one that ships.")]
_StoreOption = Annotated[str, typer.Option("--store", help="SQLite file, or redis://HOST:PORT/DB.")]
_Url = Annotated[
    str | None,
    typer.Option("--url", help="An xApp's HTTP endpoint, in place of --store; token in $DISTILA_ROLLOUT_TOKEN."),
]
_Who = Annotated[str | None, typer.Option("--who", help="Goes into the audit log; default: the user's name.")]
_Why = Annotated[str, typer.Option("--why", help="Goes into the audit log.")]
_Version = Annotated[int | None, typer.Option("--expect", help="Refuse if the rollout has moved on from this version.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_DEFAULT_STORE: Final = RolloutConfig().store


@app.command()
def plan(
    plan: Annotated[str | None, typer.Argument(help="YAML file, or a plan that ships; none: list these.")] = None,
    json: _Json = False,
) -> None:
    """Check a plan and the bundles it names, and show what it would do; or list the plans that ship."""
    if plan is None:
        plans = {name: load_plan(name).description for name in bundled_plans()}
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
        [[m.name, m.role, m.better, f"{m.margin:g} {m.scale}"] for m in loaded.metrics],
    )
    for policy, digest in digests.items():
        stdout.print(f"policy {policy}: {digest[:12] + '..., checked' if digest else 'no override'}", soft_wrap=True)
    for note in loaded.notes():
        stdout.print(f"- {note}", soft_wrap=True)


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
    """Start a rollout: the xApps that follow the store begin its first stage."""
    _order(Command(action="start", plan=load_plan(plan), **_given(who, why, expect)), store, url, json)


@app.command()
def status(store: _StoreOption = _DEFAULT_STORE, url: _Url = None, json: _Json = False) -> None:
    """Show where the rollout stands, and the latest verdict."""
    found = _ask(url, "status") if url is not None else _at(store, _status)
    if json:
        print_json(found)
        return
    verdict = found.get("verdict") or {}
    shown = ("status", "version", "run", "stage_name", "share_pct", "interval", "stage_intervals", "withdrawn")
    rows = [[name.replace("_", " "), str(found[name])] for name in (*shown, "promoted", "reason") if name in found]
    print_table(f"rollout {found.get('run', '')}", ["what", "value"], rows)
    if verdict.get("findings"):
        print_table(f"verdict: {verdict['action']}: {verdict['why']}", *finding_table(verdict["findings"]))


@app.command()
def promote(
    to_end: Annotated[bool, typer.Option(help="The challenger becomes the policy of all, now.")] = False,
    challenger: Annotated[str | None, typer.Option(help="Which, if there are several.")] = None,
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Go to the next stage, or to the end."""
    given = _given(who, why, expect)
    _order(Command(action="promote", to_end=to_end, challenger=challenger, **given), store, url, json)


@app.command()
def pause(
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Go no further by itself; the arms stay, and so do the guardrails."""
    _order(Command(action="pause", **_given(who, why, expect)), store, url, json)


@app.command()
def resume(
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Go on after a pause, or after the rollout was held."""
    _order(Command(action="resume", **_given(who, why, expect)), store, url, json)


@app.command()
def abort(
    store: _StoreOption = _DEFAULT_STORE,
    url: _Url = None,
    who: _Who = None,
    why: _Why = "",
    expect: _Version = None,
    json: _Json = False,
) -> None:
    """Back to the champion."""
    _order(Command(action="abort", **_given(who, why, expect)), store, url, json)


@app.command()
def kill(
    store: _StoreOption = _DEFAULT_STORE, url: _Url = None, who: _Who = None, why: _Why = "", json: _Json = False
) -> None:
    """Back to the champion at once; with --url even if the xApp cannot reach its store."""
    _order(Command(action="kill", **_given(who, why, None)), store, url, json)


@app.command()
def audit(
    store: _StoreOption = _DEFAULT_STORE,
    log: Annotated[Path | None, typer.Option(help="A log saved with --json, in place of the store's.")] = None,
    json: _Json = False,
) -> None:
    """Show the audit log; check its hash chain, and work every verdict out again. Exit status 1 if anything differs."""
    if log is not None:
        entries, head = read_log(log), None
    else:
        entries, head = _at(store, lambda held: (held.audit(), getattr(held.load(), "audit_head", "")))
    fault, verdicts = None, []
    try:
        verify(entries, head)
        verdicts = replayed(entries)
    except InputError as error:
        fault = str(error)
    differing = [seq for seq, recorded, now in verdicts if recorded != now]
    if json:
        print_json(
            {
                "intact": fault is None,
                "fault": fault,
                "replayed": len(verdicts),
                "differing": differing,
                "entries": entries,
            }
        )
    else:
        for entry in entries:
            if entry["what"] != "evaluate":
                line = f"{entry['seq']:>5}  {entry['what']:<10} {entry['status']:<11} {entry['who']}: {entry['why']}"
                stdout.print(line, soft_wrap=True)
        stdout.print(fault or f"hash chain intact; {len(verdicts)} verdicts replayed, {len(differing)} differ")
    if fault is not None or differing:
        raise typer.Exit(1)


def _given(who: str | None, why: str, expect: int | None) -> dict[str, Any]:
    return {"who": who or getuser(), "why": why, "expected_version": expect}


def _order(command: Command, store: str, url: str | None, json: bool) -> None:
    if url is not None:
        body = command.model_dump(mode="json", exclude={"action"}, exclude_none=True)
        if command.action != "promote":
            body.pop("to_end", None)
        found = _ask(url, command.action, body)
    else:
        found = summary(_at(store, lambda held: order(held, command)[0]))
    if json:
        print_json(found)
    else:
        stdout.print(f"{command.action}: {found['run']} is {found['status']}, version {found['version']}")


def _status(store: Store) -> dict[str, Any]:
    state: State | None = store.load()
    recent = [] if state is None else store.audit(max(0, state.version - _RECENT))
    latest = next((entry for entry in reversed(recent) if "verdict" in entry["detail"]), None)
    verdict = None if latest is None or state is None or latest["run"] != state.run else latest["detail"]["verdict"]
    return {**summary(state), "verdict": verdict}


def _at(url: str, what: Callable[[Store], Any]) -> Any:
    store = open_store(url)
    try:
        return what(store)
    except StoreLostError as error:
        raise InputError(str(error)) from None
    finally:
        store.close()


def _ask(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url {url}: expected http:// or https://")
    request = urllib.request.Request(
        f"{url.rstrip('/')}/rollout/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {RolloutConfig().token() or ''}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            text = str(json.load(error)["detail"])
        except (ValueError, KeyError):
            text = error.reason
        raise InputError(f"{url}: {error.code}: {text}") from None
    except OSError as error:
        raise InputError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    return found


def _add_offline_commands() -> None:
    """The commands that need the replay, where it is installed."""
    for entry in entry_points(group="distila.rollout"):
        try:
            app.registered_commands.extend(entry.load().registered_commands)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == "distila":
                raise


_add_offline_commands()
