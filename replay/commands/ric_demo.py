"""`distila ric-demo`: the xApp on a near-RT RIC, all of it on this machine."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from distila.replay.ric.demo import has_rmr, ric_demo
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stderr
from distila.xapp.errors import InputError

app = application(SUMMARIES["ric-demo"].text)


@app.command()
def demo(
    transport: Annotated[
        Literal["auto", "rmr", "grpc"], typer.Option(help="auto: RMR if librmr is installed, else gRPC.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Empty directory that keeps configuration, routes and the xApp's log.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the steps as JSON instead of a table.")] = False,
) -> None:
    """Registration, subscription, decisions, A1, hot swap, SIGTERM; exit status 1 if a step went wrong."""
    if out is not None and out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out}: the directory is not empty")
    rmr = has_rmr() if transport == "auto" else transport == "rmr"
    if transport == "auto" and not rmr:
        stderr.print("librmr_si.so is not installed: over gRPC, without subscription and A1", soft_wrap=True)
    with TemporaryDirectory() as temporary, progress_bar("RIC on one machine", "steps") as progress:
        folder = Path(temporary) if out is None else out
        folder.mkdir(parents=True, exist_ok=True)
        steps = ric_demo(folder, rmr, progress)
    good = all(step.ok is not False for step in steps)
    if json:
        print_json({"transport": "rmr" if rmr else "grpc", "ok": good, "steps": [asdict(step) for step in steps]})
    else:
        marks = {True: "ok", False: "WRONG", None: "-"}
        title = f"distila on a near-RT RIC, over {'RMR and E2AP' if rmr else 'gRPC'}"
        print_table(title, ["step", "observed", ""], [[step.name, step.seen, marks[step.ok]] for step in steps])
    if not good:
        raise typer.Exit(1)
