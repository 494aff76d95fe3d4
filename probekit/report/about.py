"""What was run, how it learned, and what it was given: the sections from run.json, metrics.jsonl and the pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from generators import certificates
from probekit.output.charts import draw_lines, draw_losses
from probekit.output.document import (
    Block,
    Cell,
    Chart,
    Note,
    Picture,
    Section,
    Table,
    command,
    count,
    number,
    percent,
    text,
)
from probekit.probe import MONITORS, SIGNED
from probekit.report.compare import with_branches
from probekit.run import IMPORTED

NOT_LOSSES = {"epoch", "step", "lr", "val", "test"}  # of a line of metrics.jsonl


def about_section(run: Mapping[str, Any], key: str) -> Section:
    """Config, data and versions."""
    source = f"Read from {Path(run['path']) / 'run.json'}."
    fields = {name: run[name] for name in ("state", "created", "device", "threads", "commit")}
    if run["resumed"]:
        fields["resumed"] = "; ".join(f"after epoch {part['epoch']} on {part['device']}" for part in run["resumed"])
    weights = run.get("weights")
    if isinstance(weights, Mapping) and (told := [str(weights[key]) for key in ("after", "mark") if weights.get(key)]):
        fields["weights that it starts from"] = ", ".join((str(weights.get("file")), *told))
    facts = {**fields, "dataset": run["dataset"]["path"], "content hash": run["dataset"]["hash"], **run["versions"]}
    blocks: list[Block] = [
        _facts(f"{key}-run", "Run and versions", source, facts),
        _facts(
            f"{key}-config",
            "Configuration",
            f"{source} {with_branches(run['config'])} as it was trained.",
            run["config"],
        ),
    ]
    if run["data"] is not None:
        described = {name: value for name, value in run["data"].items() if name != "splits"}
        if described.pop("certificate", None):
            described["certificate"] = certificates.told(run["data"]["certificate"])
        how = f"Read from {run['dataset']['path']}, whose content hash is the one that the run was trained on."
        blocks += [
            _splits(run["data"]["splits"], f"{key}-splits", how),
            _facts(f"{key}-data", "Dataset", how, described),
        ]
    blocks += [Note(line) for line in run["left_out"]]
    return Section(f"{key}-about", "What was run", blocks)


def curves_section(run: Mapping[str, Any], key: str) -> Section:
    """Losses and the monitor's scores by epoch."""
    lines = run["metrics"]
    source = Path(run["path"]) / "metrics.jsonl"
    names = list(dict.fromkeys(name for line in lines for name in line if name not in NOT_LOSSES))
    blocks: list[Block] = []
    if names:
        how = (
            f"From {source}, {len(lines)} epochs: the mean over the epoch's batches of the loss and of what the method "
            "logs beside it, its parts before their weights. Then what tells of a collapse, after the epoch "
            "(docs/protocols.md): deviation, effective rank and the like are no parts of the loss. Each panel has a "
            "scale of its own."
        )
        blocks.append(
            Chart(
                f"{key}-losses",
                "Training: the loss, its parts, and signs of a collapse",
                how,
                partial(draw_losses, lines, names),
            )
        )
    scored = [line for line in lines if "val" in line or "test" in line]
    if scored:
        blocks += _monitored(scored, key, source, run["config"]["train"])
    if not blocks and run["state"] == IMPORTED:
        blocks.append(Note("An imported encoder: it was not trained here."))
    elif not blocks:
        resume = command("probekit", "pretrain", run["config"]["method"], "--resume", "--name", *run["argument"])
        blocks.append(Note("No finished epoch yet. Go on with it by typing:", resume))
    return Section(f"{key}-curves", "Learning curves", blocks)


def pictures_section(run: Mapping[str, Any], key: str) -> Section:
    """What the method was given, and what its decoder made of it."""
    again = command("probekit", "show", *run["argument"])
    blocks: list[Block] = [
        Picture(
            f"{key}-views-{i}",
            f"What {run['config']['method']} is given and predicts: {Path(picture).name}",
            "Views of the first images of a split: input, target, and the prediction where the method has a decoder. "
            f"Drawn by: {again}",
            Path(picture),
        )
        for i, picture in enumerate(run["pictures"])
    ]
    if not blocks and run["state"] == IMPORTED:
        blocks = [Note("An imported encoder: it has neither views nor a decoder.")]
    elif not blocks:
        blocks = [Note("No picture of views and reconstructions yet. Draw it by typing:", again)]
    return Section(f"{key}-reconstructions", "Reconstructions", blocks)


def _monitored(scored: Sequence[Mapping[str, float]], key: str, source: Path, train: Mapping[str, Any]) -> list[Block]:
    monitor = train.get("monitor", "linear")
    how = (
        f"From {source}: {MONITORS.get(monitor, monitor)}, every {train['eval_every']} epochs and after the "
        "last. val: on the validation part of train; test: on the test split, for the eye only, except that it chooses "
        "the checkpoint best_test. No intervals."
    )
    series = [
        (name, [line["epoch"] for line in scored if name in line], [line[name] for line in scored if name in line])
        for name in ("val", "test")
        if any(name in line for line in scored)
    ]
    percents = monitor not in SIGNED
    unit = "%" if percents else monitor
    draw = partial(draw_lines, series, x="epoch", y=f"monitor, {unit}", percents=percents, marker="o")
    rows = [
        [
            count(int(line["epoch"])),
            *(percent(line.get(name)) if percents else number(line.get(name)) for name in ("val", "test")),
        ]
        for line in scored
    ]
    return [
        Chart(f"{key}-monitor", "The monitor while it trained", how, draw),
        Table(f"{key}-monitored", f"The same in numbers, {unit}", how, ("epoch", "val", "test"), rows, folded=True),
    ]


def _splits(splits: Mapping[str, Mapping[str, Any]], key: str, how: str) -> Table:
    rows = [
        [
            text(name),
            count(split["n"]),
            Cell(f"{split['height']} x {split['width']}", split["height"]),
            count(split["channels"]),
            text("yes" if split["labelled"] else "no"),
        ]
        for name, split in splits.items()
    ]
    return Table(key, "Images", how, ("split", "images", "pixels", "channels", "labelled"), rows)


def _facts(key: str, title: str, how: str, facts: Mapping[str, Any]) -> Table:
    """Names and values, nested ones with dots; folded when there are many."""
    rows = [[text(name), text(value)] for name, value in _flat(facts)]
    return Table(key, title, how, ("what", "value"), rows, folded=True)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _plain(value)))
    return found


def _plain(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
