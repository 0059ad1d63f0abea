"""The model card: what a policy was made from, how good it is and where it is not, on one page of Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distila.replay.atomic_file import replacing
from distila.training.student.recipe import Recipe
from distila.xapp.policy.bundle import Bundle


def write_card(
    path: Path,
    recipe: Recipe,
    bundle: Bundle,
    benchmarks: Mapping[str, Mapping[str, Any]],
    failed: Sequence[str],
) -> None:
    """Write the card.

    Args:
        path: of the Markdown file.
        recipe: by which the policy was made.
        bundle: the policy.
        benchmarks: contents of results.json by what was run.
        failed: what did not pass.
    """
    text = "\n".join([*_head(recipe, bundle), *_judgement(failed), *_tables(benchmarks), *_making(recipe, bundle), ""])
    with replacing(path) as partial:
        partial.write_text(text)


def _head(recipe: Recipe, bundle: Bundle) -> list[str]:
    manifest, latency = bundle.manifest, bundle.manifest.latency_us
    kinds = [action.kind for action in manifest.actions]
    offsets = [action.value for action in manifest.actions if action.kind == "mcs_offset"]
    actions = f"{kinds.count('mcs')} absolute MCS"
    if offsets:
        actions += f", offsets {min(offsets):+d} to {max(offsets):+d} to the DU's own choice"
    return [
        f"# {recipe.name} {recipe.version}",
        "",
        recipe.description,
        "",
        "| | |",
        "|---|---|",
        f"| sha256 of the graph | `{bundle.digest}` |",
        f"| size | {bundle.graph_bytes} bytes |",
        f"| one `session.run`, 1 UE | p50 {latency.get('1_ue_p50')} us, p99 {latency.get('1_ue_p99')} us |",
        f"| one `session.run`, 100 UEs | p50 {latency.get('100_ue_p50')} us, p99 {latency.get('100_ue_p99')} us |",
        f"| reads | {len(manifest.columns)} report columns, any of them may be missing |",
        f"| memory per UE | {manifest.state_size} numbers |",
        f"| answers | {actions} |",
        f"| MCS tables (TS 38.214) | {', '.join(map(str, manifest.mcs_tables))} |",
        "",
    ]


def _judgement(failed: Sequence[str]) -> list[str]:
    if not failed:
        return ["It passed its benchmark.", ""]
    return ["**It did not pass its benchmark and must not be shipped:**", "", *(f"- {line}" for line in failed), ""]


def _tables(benchmarks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["## Figures", ""]
    lines += ["Gain in goodput over tuned OLLA in the DU [%] with its 95 % interval, on test seeds; † not in training."]
    for run, results in benchmarks.items():
        settings = results["settings"]
        size = f"{settings['links']} links of {settings['duration_ms'] / 1000:g} s, {len(settings['seeds'])} seeds"
        policies = [name for name in next(iter(results["families"].values()))["policies"] if name != "olla"]
        lines += ["", f"### {run} ({size})", ""]
        lines += [f"| family | {' | '.join(policies)} | BLER / OLLA's | given up / OLLA's |"]
        lines += ["|---" * (len(policies) + 3) + "|"]
        for family, figures in results["families"].items():
            entries = figures["policies"]
            cells = [_gain(entries[name]["gain_vs_olla_pct"]) for name in policies]
            ours, theirs = entries[policies[0]], entries["olla"]
            bler = f"{ours['first_tx_bler']:.2f} / {theirs['first_tx_bler']:.2f}"
            lost = f"{ours['residual_bler']:.1e} / {theirs['residual_bler']:.1e}"
            mark = " †" if figures["unseen"] else ""
            lines += [f"| `{family}`{mark} | {' | '.join(cells)} | {bler} | {lost} |"]
        for group, entry in results["averages"].items():
            cells = [_gain(entry["policies"][name]) for name in policies]
            lines += [f"| *mean, {group}* | {' | '.join(cells)} | | |"]
    return [*lines, ""]


def _gain(gain: Mapping[str, Any]) -> str:
    low, high = gain["ci95"]
    if gain["mean"] is None or low is None or high is None:
        return "-"
    return f"{gain['mean']:+.1f} ({low:+.1f} to {high:+.1f})"


def _making(recipe: Recipe, bundle: Bundle) -> list[str]:
    config = bundle.manifest.training["config"]
    network = config["network"]
    scenarios = ", ".join(f"`{name}`" for name in dict.fromkeys(config["scenarios"]))
    return [
        "## How it was made",
        "",
        f"`distila student build --recipe {recipe.name}`: a privileged teacher (configuration `{recipe.teacher}`), "
        f"distilled (configuration `{recipe.student}`) into hidden layers {network['hidden']} over "
        f"{config['episodes']} episodes of {config['links']} links and {config['slots']} slots of {scenarios}; driver: "
        f"{config['driver']}.",
        "",
        "## Limits",
        "",
        "- Trained and measured in simulation (docs/simulator.md): its error-rate curves, HARQ combining and channels "
        "are models. Try it in shadow or on a small share of UEs first.",
        "- It aims at goodput, and lets first transmissions fail more often than OLLA does where a retransmission "
        "costs less than caution; latency-critical slices are not what it was made for.",
        "- MCS and CQI tables, carriers and numerologies beyond those above were not tried.",
    ]
