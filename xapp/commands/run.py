"""`distila run`: the xApp itself."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from distila.xapp.app import Xapp
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table
from distila.xapp.config import RunConfig, load_config
from distila.xapp.ric.logs import set_up_logging

app = application(SUMMARIES["run"].text)


@app.command()
def run(
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="CONFIG_FILE",
            help="YAML file with the settings, or an xApp descriptor; the options below override it.",
        ),
    ] = None,
    e2: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="gRPC endpoint of the E2 node.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Directory of a policy bundle, or the name of one that ships.")
    ] = None,
    deadline: Annotated[bool, typer.Option(help="Withhold decisions that are later than guard.deadline_us.")] = True,
    exit_on_end: Annotated[
        bool, typer.Option(help="End when the E2 node closes its stream, as a replay does.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the counters as JSON at the end, instead of a table.")
    ] = False,
) -> None:
    """Run the xApp until SIGTERM or SIGINT, then print its counters."""

    def load() -> RunConfig:
        settings = load_config(config) if config is not None else RunConfig()
        if e2 is not None:
            settings = settings.replaced("e2", "endpoint", value=e2)
        if policy is not None:
            settings = settings.replaced("policy", value=policy)
        if not deadline:
            settings = settings.replaced("guard", "deadline_us", value=None)
        return settings

    settings = load()
    set_up_logging(settings.log_level, settings.log_format, settings.instance_id)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    xapp = Xapp(settings, exit_on_end, config, load)
    xapp.run(stop)
    stats = xapp.stats()
    if json:
        print_json(stats.model_dump(mode="json", exclude_unset=True))
        return
    rows = [[name, str(getattr(stats, name))] for name in ("indications", "decisions", "native")]
    for group in ("dropped", "guarded", "noticed", "outcomes", "lost"):
        rows += [[f"{group}: {reason}", str(count)] for reason, count in getattr(stats, group).items()]
    for part, counts in stats.platform.items():
        rows += [[f"{part}: {what}", str(count)] for what, count in counts.items()]
    total = stats.latency_us["total"]
    if total.p50 is not None:
        rows.append(["latency p50 / p99 / max [us]", f"{total.p50} / {total.p99} / {total.max}"])
    print_table(f"distila run, policy {xapp.loop.bundle.manifest.name}", ["what", "count"], rows)
