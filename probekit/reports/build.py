"""From what `collect` read to a document: the comparison, then a chapter a run: what was run, measured and drawn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import join
from typing import Any

from generators import certificates
from probekit.measurement import Measurement, Result, measurement, measurements
from probekit.output import document as doc
from probekit.output.charts import draw_lines, draw_losses
from probekit.probes import MONITORED, MONITORS, SIGNED
from probekit.reports.compare import with_branches
from probekit.reports.comparison import comparison_chapter
from probekit.results import picture_of
from probekit.run import IMPORTED, Run

MOST_NAMES = 4  # in the title
NOT_LOSSES = {"epoch", "step", "lr", "val", "test"}  # of a line of metrics.jsonl


def build(report: Mapping[str, Any]) -> doc.Document:
    """Lays out what `collect.collect` gives."""
    chapters = [] if report["comparison"] is None else [comparison_chapter(report)]
    chapters += [_chapter(run, f"{i}-{doc.key_of(run['name'])}") for i, run in enumerate(report["runs"])]
    names = [run["name"] for run in report["runs"]]
    title = ", ".join(names) if len(names) <= MOST_NAMES else f"{names[0]} and {len(names) - 1} more runs"
    return doc.Document(f"probekit: {title}", report["command"], chapters)


def _chapter(run: Mapping[str, Any], key: str) -> doc.Chapter:
    prefix = f"run-{key}"
    trained = [] if run["state"] == IMPORTED else [curves_section(run, prefix), pictures_section(run, prefix)]
    measured = measured_sections(run, prefix)
    leading = [f"{prefix}-{each.name}" for each in measurements() if each.leads]
    measured.sort(key=lambda section: section.key not in leading)
    sections = [*measured, *trained, about_section(run, prefix)]  # what was found before what was set
    return doc.Chapter(key, run["name"], lead(run), sections, headline(run))


def headline(run: Mapping[str, Any]) -> doc.Headline | None:
    """What the first result that has one shows in large letters."""
    found = (measurement(name).headline(result) for name, results in run["results"].items() for result in results)
    return next(filter(None, found), None)


def lead(run: Mapping[str, Any]) -> str:
    """The run in a few sentences: its settings, and the first thing that the measurement in front and another say."""
    method = f"{with_branches(run['config'])}, seed {run['config']['seed']}, on {run['dataset']['name']}"
    told: dict[bool, str] = {}  # by whether it leads
    for name, results in run["results"].items():
        for result in results:
            reader = measurement(name)
            where = "" if result["data_hash"] == run["dataset"]["hash"] else f"On {result['data']}: "
            for line in reader.sentences(result)[:1]:
                told.setdefault(reader.leads, f"{where}{line}")
    if told:
        return " ".join((f"{method}.", *(told[leads] for leads in (True, False) if leads in told)))
    measured = [name for name, results in run["results"].items() if results]
    return f"{method}; {'measured: ' + ', '.join(measured) if measured else 'not measured yet'}."


def measured_sections(run: Mapping[str, Any], key: str) -> list[doc.Section]:
    """What was measured, then what was not and how to."""
    folder = Run(Path(run["path"]))
    sections = [
        _section(folder, measurement(name), result, f"{key}-{name}", number)
        for name, results in run["results"].items()
        for number, result in enumerate(results)
    ]
    missing = [each for each in measurements() if not run["results"][each.name] and each.proposed(run)]
    by_command: dict[str, list[Measurement]] = {}
    for each in missing:
        by_command.setdefault(each.command, []).append(each)
    notes = [
        doc.Note(
            f"Not measured yet: {', '.join(doc.in_a_line(each.title) for each in own)}. "
            f"Measure by typing{ASIDES.get(name, '')}:",
            join(["probekit", name, *run["argument"], *(word for each in own for word in each.words)]),
        )
        for name, own in by_command.items()
    ]
    return [*sections, *([doc.Section(f"{key}-unmeasured", "Not measured yet", notes)] if notes else [])]


ASIDES = {"probe": " (images without labels: with --data LABELLED.h5)"}


def _section(run: Run, reader: Measurement, result: Result, key: str, number: int) -> doc.Section:
    """One result; those after the first of a measurement are folded, and say in their title what they are of."""
    options = "".join(f"{told}, " for told in reader.unusual(result["options"]))
    what = f"protocol {result['protocol']}, {options}checkpoint {result['checkpoint']}, on {result['data']}"
    stage = result["after"] if result["after"] == IMPORTED else f"after {result['after']}"
    whole = f"{result['how']} Data: {result['data']}, encoder {stage}; seed {result['seed']}."
    told = [*map(doc.Note, reader.sentences(result))]
    notes = [doc.Note(line) for line in (*result.get("certificate", ()), *result["notes"])]
    blocks = [*told, *_shown(run, reader, result, f"{key}-{number}"), *notes]
    if number:
        return doc.Section(f"{key}-{number}", f"{reader.title}: {what}", blocks, whole, result["command"], folded=True)
    how = f"{what[0].upper()}{what[1:]}. {whole}"
    return doc.Section(key, reader.title, blocks, how, result["command"])


def _shown(run: Run, reader: Measurement, result: Result, key: str) -> list[doc.Block]:
    """Its charts and tables, pictures of images first; after the first table the others are folded, and come last.

    All tables are folded where a picture shows what they hold: the exam's, and a heatmap's.
    """
    shown: list[doc.Table | doc.Chart] = [*reader.tables(result), *reader.charts(result)]
    shown.sort(key=lambda block: not (isinstance(block, doc.Chart) and block.photographs))
    if reader.leads:
        shown.sort(key=lambda block: isinstance(block, doc.Table))
    paths = {block.key: picture_of(run, Path(result["file"]).stem, block.key) for block in shown}
    charts = [block for block in shown if isinstance(block, doc.Chart)]
    drawn = any(paths[chart.key].is_file() if chart.photographs else reader.leads for chart in charts)
    first = None if drawn else next((block for block in shown if isinstance(block, doc.Table)), None)
    blocks: list[doc.Block] = []
    for block in shown:
        path = paths[block.key]
        if isinstance(block, doc.Table):
            blocks.append(replace(block, key=f"{key}-{block.key}", folded=block.folded or block is not first))
        elif not block.photographs:
            blocks.append(replace(block, key=f"{key}-{block.key}"))
        elif path.is_file():  # drawn when it was measured
            blocks.append(doc.Picture(f"{key}-{block.key}", block.title, block.how, path))
    return sorted(blocks, key=lambda block: isinstance(block, doc.Table) and block.folded)


def about_section(run: Mapping[str, Any], key: str) -> doc.Section:
    """Config, data and versions."""
    source = f"Read from {Path(run['path']) / 'run.json'}."
    fields = {name: run[name] for name in ("state", "created", "device", "threads", "commit")}
    if run["resumed"]:
        fields["resumed"] = "; ".join(f"after epoch {part['epoch']} on {part['device']}" for part in run["resumed"])
    weights = run.get("weights")
    if isinstance(weights, Mapping) and (told := [str(weights[key]) for key in ("after", "mark") if weights.get(key)]):
        fields["weights that it starts from"] = ", ".join((str(weights.get("file")), *told))
    facts = {**fields, "dataset": run["dataset"]["path"], "content hash": run["dataset"]["hash"], **run["versions"]}
    blocks: list[doc.Block] = [
        _facts(f"{key}-run", "Run and versions", source, facts),
        _facts(
            f"{key}-config",
            "Configuration",
            f"{source} {with_branches(run['config'])} as it was trained.",
            run["config"],
        ),
    ]
    if run["data"] is not None:
        described = {**run["data"]}
        splits = described.pop("splits")
        if described.pop("certificate", None):
            described["certificate"] = certificates.told(run["data"]["certificate"])
        how = f"Read from {run['dataset']['path']}, whose content hash is the one that the run was trained on."
        blocks += [
            doc.table(
                f"{key}-splits",
                "Images",
                how,
                SPLITS,
                [{"name": name, **split} for name, split in splits.items()],
                folded=True,
            ),
            _facts(f"{key}-data", "Dataset", how, described),
        ]
    if run["state"] == IMPORTED:
        blocks.append(doc.Note("An imported encoder: it was not trained here, and has neither views nor a decoder."))
    blocks += [doc.Note(line) for line in run["left_out"]]
    return doc.Section(f"{key}-about", "What was run", blocks)


def curves_section(run: Mapping[str, Any], key: str) -> doc.Section:
    """Losses and the monitor's scores by epoch."""
    lines = run["metrics"]
    source = Path(run["path"]) / "metrics.jsonl"
    names = list(dict.fromkeys(name for line in lines for name in line if name not in NOT_LOSSES))
    blocks: list[doc.Block] = []
    if names:
        how = (
            f"From {source}, {len(lines)} epoch{'s' * (len(lines) != 1)}: the mean over the epoch's batches of the "
            "loss and of what the method logs beside it, its parts before their weights. Then what tells of a "
            "collapse, after the epoch (docs/protocols.md): deviation, effective rank and the like are no parts of the "
            "loss. Each panel has a scale of its own."
        )
        blocks.append(
            doc.Chart(
                f"{key}-losses",
                "Training: the loss, its parts, and signs of a collapse",
                how,
                partial(draw_losses, lines, names),
            )
        )
    scored = [line for line in lines if "val" in line or "test" in line]
    if scored:
        blocks += _monitored(scored, key, source, run["config"]["train"])
    if not blocks:
        resume = join(["probekit", "pretrain", run["config"]["method"], "--resume", "--name", *run["argument"]])
        blocks.append(doc.Note("No finished epoch yet. Go on with it by typing:", resume))
    return doc.Section(f"{key}-curves", "Learning curves", blocks)


def pictures_section(run: Mapping[str, Any], key: str) -> doc.Section:
    """What the method was given, and what its decoder made of it."""
    again = join(["probekit", "show", *run["argument"]])
    blocks: list[doc.Block] = [
        doc.Picture(
            f"{key}-views-{i}",
            f"What {run['config']['method']} is given and predicts: {Path(picture).name}",
            "Views of the first images of a split: input, target, and the prediction where the method has a decoder. "
            f"Drawn by: {again}",
            Path(picture),
        )
        for i, picture in enumerate(run["pictures"])
    ]
    if not blocks:
        blocks = [doc.Note("No picture of views and reconstructions yet. Draw it by typing:", again)]
    return doc.Section(f"{key}-reconstructions", "Reconstructions", blocks)


def _monitored(
    scored: Sequence[Mapping[str, float]], key: str, source: Path, train: Mapping[str, Any]
) -> list[doc.Block]:
    monitor = train.get("monitor", "linear")
    what = MONITORS.get(monitor, monitor) + MONITORED[train.get("monitored", "embedding")]
    how = (
        f"From {source}: {what}, every {train['eval_every']} epochs and after the last. val: on the validation "
        "part of train; test: on the test split, for the eye only, except that it chooses the checkpoint best_test. "
        "No intervals."
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
            doc.count(int(line["epoch"])),
            *(doc.percent(line.get(name)) if percents else doc.number(line.get(name)) for name in ("val", "test")),
        ]
        for line in scored
    ]
    return [
        doc.Chart(f"{key}-monitor", "The monitor while it trained", how, draw),
        doc.Table(f"{key}-monitored", f"The same in numbers, {unit}", how, ("epoch", "val", "test"), rows, folded=True),
    ]


SPLITS: dict[str, Callable[[Any], doc.Cell]] = {
    "split": doc.by("name"),
    "images": doc.by("n", doc.count),
    "pixels": lambda split: doc.Cell(f"{split['height']} x {split['width']}", split["height"]),
    "channels": doc.by("channels", doc.count),
    "labelled": lambda split: doc.text("yes" if split["labelled"] else "no"),
}


def _facts(key: str, title: str, how: str, facts: Mapping[str, Any]) -> doc.Table:
    """Names and values, nested ones with dots."""
    rows = [[doc.text(name), doc.text(_plain(value))] for name, value in _flat(facts)]
    return doc.Table(key, title, how, ("what", "value"), rows, folded=True)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
