"""`runs`, `list`, `help`, `demo`: what there is, and where to begin."""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from probekit.cli.catalogue import KINDS, catalogue, print_catalogue
from probekit.cli.pages import glossary, meant, page, pages, title_of
from probekit.cli.shared import (
    DATA,
    OVERVIEW,
    RUNS,
    Formats,
    Json,
    Overwrite,
    Quiet,
    command,
    kinds_like,
    methods_like,
    words_like,
)
from probekit.files import read_json
from probekit.measurement import read_result
from probekit.output.console import console, errors, print_json
from probekit.probes import PROTOCOLS, SIGNED
from probekit.registry import MEASUREMENTS, check_named, nearest
from probekit.run import Run, find_runs
from probekit.visible import first_line

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))  # seconds in each
WHOLE = 40  # columns: a longer name of a run is broken where the terminal is narrow
Names = Annotated[bool, typer.Option("--quiet", "-q", help="Print names only, one a line.")]


@command(OVERVIEW, "probekit runs", "probekit runs --json")
def runs(as_json: Json = False, names_only: Names = False) -> None:
    """List the runs in runs/, the newest first: method, data, epoch, state, accuracy and age."""
    found = runs_in(RUNS)
    if as_json:
        print_json({"runs": found})
    elif names_only:
        print(*(entry["name"] for entry in found if "problem" not in entry), sep="\n")
    else:
        print_runs(found, RUNS, console)


@command(OVERVIEW, "probekit list methods", "probekit list generators", name="list")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(help=f"One of {', '.join(KINDS)}; default: the names of all.", autocompletion=kinds_like),
    ] = None,
    as_json: Json = False,
    names_only: Names = False,
) -> None:
    """List what there is to choose from: methods with their sizes, generators with their parameters, and more."""
    if what is not None:
        check_named("kind", what, KINDS)
    content = catalogue(tuple(KINDS) if what is None else (what,))
    if as_json:
        print_json(content)
    elif names_only:
        print(*(entry["name"] for entries in content.values() for entry in entries), sep="\n")
    else:
        print_catalogue(content, console)


@command(OVERVIEW, "probekit help evidence", "probekit help probe", "probekit help faq", name="help")
def help_(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD|TOPIC|COMMAND]", help="Default: all words and topics.", autocompletion=words_like
        ),
    ] = None,
) -> None:
    """Say what a word means that probekit prints, show a page of the documentation, or the help of a command."""
    assert context.parent is not None
    commands, entries = context.parent.command.commands, glossary()  # type: ignore[attr-defined]
    word = " ".join(words or ())
    if word in commands:
        context.parent.command.main([word, "--help"], prog_name="probekit", standalone_mode=False)
        if page(word):
            console.print(f"its page: probekit help {word}.md")
        return
    if found := page(word):
        from rich.markdown import Markdown  # slow to import

        console.print(Markdown(found.read_text(encoding="utf-8"), hyperlinks=False), soft_wrap=False)
        return
    entry = meant(word)
    if word and entry is None:
        raise ValueError(nearest("word, topic or command", word, [*entries, *pages(), *commands]))
    for name in entries if entry is None else [entry]:
        console.print(f"{name}: {entries[name]}")
    if not word:
        console.print("topics, for: probekit help TOPIC")
        for path in pages().values():
            console.print(f"  {path.name:20} {title_of(path)}")


@command(OVERVIEW, "probekit demo --quick", "probekit demo", "probekit demo simclr", "probekit demo --real")
def demo(
    method: Annotated[
        str | None,
        typer.Argument(
            help="The method to pretrain; default: conrec, with --real simclr-attention.", autocompletion=methods_like
        ),
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="Use real images that need no download: digits.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure an encoder that comes along, in a minute; train none.")
    ] = False,
    overwrite: Overwrite = False,
    formats: Formats = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Generate, pretrain, probe, draw maps and report: the whole path, in minutes on two CPU cores."""
    from probekit.cli.demo import going_on, run_demo, run_quick

    if quick and (method or real or overwrite):
        raise ValueError("expected --quick alone, found it with others; type: probekit demo --quick")
    say = errors if as_json else console
    words = ["probekit demo", *([method] if method else []), *["--quick"] * quick, *["--real"] * real]
    with going_on(" ".join(words)):
        if quick:
            run = run_quick(data=DATA, runs=RUNS, console=say)
        else:
            method = method or ("simclr-attention" if real else "conrec")
            run = run_demo(method, real=real, data=DATA, runs=RUNS, overwrite=overwrite, console=say)
    if as_json:
        print_json(about(run) | {"report": str(run.path / "report.html")})


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """What every run of a folder is, the newest first, then the folders that hold none that can be read.

    A run has name, path, method (with its branches, joined by "+"), data, epoch (the last that was trained, or null),
    epochs, state, accuracy (a fraction, or null, which it is where only the monitor's kappa is known), accuracy_of
    ("linear probe", say, "monitor on test", "monitor on val" or null), changed (when, ISO 8601) and age
    (seconds since). A folder that cannot be read has name, path and problem, a line.
    """
    runs = find_runs(folder)[::-1]
    others = [Run(path) for path in sorted(folder.glob("[!.]*")) if path.is_dir()]
    found = []
    for run in [*runs, *(other for other in others if other not in runs)]:
        try:
            found.append(about(run))
        except (ValueError, OSError) as error:
            found.append({"name": run.name, "path": str(run.path), "problem": first_line(error)})
    return sorted(found, key=lambda entry: "problem" in entry)


def print_runs(found: list[dict[str, Any]], folder: Path, console: Console) -> None:
    """The same for readers: a table, a line for each folder that cannot be read, and what to type next."""
    sound = [entry for entry in found if "problem" not in entry]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    longest = max((len(entry["name"]) for entry in sound), default=0)
    for title in ("run", "method", "data", "epoch", "state", "accuracy %", "of", "age"):
        justify: Literal["left", "right"] = "right" if title in ("epoch", "accuracy %", "age") else "left"
        whole = title == "run" and longest <= WHOLE
        table.add_column(title, justify=justify, overflow="fold", no_wrap=whole)
    for entry in sound:
        accuracy = "-" if entry["accuracy"] is None else f"{100 * entry['accuracy']:.1f}"
        done, planned = entry["epoch"], entry["epochs"]
        epochs = "-" if done is None else str(done) if planned in (None, done) else f"{done} of {planned}"
        texts = (entry["name"], entry["method"], entry["data"], epochs, entry["state"], accuracy)
        table.add_row(*map(Text, (*texts, entry["accuracy_of"] or "-", _age(entry["age"]))))
    if sound:
        console.print(table, soft_wrap=False)
    for entry in found:
        if "problem" in entry:
            console.print(f"left out: {entry['problem']}")
    if not sound:
        console.print(f"no runs in {folder}; next: probekit pretrain conrec")
        return
    console.print(f"next: probekit report {quote(Run(Path(sound[0]['path'])).argument)}")


def about(run: Run) -> dict[str, Any]:
    """One entry of `runs_in`; a ValueError if it cannot be read."""
    content = run.read()
    config = content["config"]
    train = config["train"] if isinstance(config.get("train"), Mapping) else {}
    lines = run.read_metrics()
    epoch = max((line["epoch"] for line in lines), default=None)
    accuracy, of = _probed(run, content, epoch)
    for split in ("test", "val"):
        measured = [line[split] for line in lines if _is_fraction(line.get(split))]
        if accuracy is None and measured and train.get("monitor") not in SIGNED:
            accuracy, of = measured[-1], f"monitor on {split}"
    changed = run.json.stat().st_mtime
    return {
        "name": run.name,
        "path": str(run.path),
        "method": "+".join((config["method"], *config.get("branches", ()))),
        "data": content["dataset"].get("name") or Path(content["dataset"]["path"]).stem,
        "epoch": epoch,
        "epochs": train.get("epochs"),
        "state": content["state"],
        "accuracy": accuracy,
        "accuracy_of": of,
        "changed": datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
        "age": max(0, int(time.time() - changed)),
    }


def _probed(run: Run, content: Mapping[str, Any], epoch: int | None) -> tuple[float | None, str | None]:
    """The first share of images that the last encoder has right on the run's own data, the default protocol's first."""
    usual = f"-{next(iter(PROTOCOLS))}-"
    found = (sorted(run.results.glob(f"{name}-*.json")) for name in MEASUREMENTS)
    for path in (path for paths in found for path in sorted(paths, key=lambda path: usual not in path.stem)):
        with suppress(ValueError, OSError):
            result = read_json(path)
            reader = read_result(result)
            last = result["checkpoint"] == "last" and result["data_hash"] == content["dataset"]["hash"]
            if last and epoch in (None, result["epoch"]) and reader.answers(reader.encoder_rows(result)[0]):
                return next(iter(reader.encoder_scores(result).values())).value, reader.title.lower()
    return None, None


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _age(seconds: int) -> str:
    """7300 -> "2 h"."""
    return next((f"{seconds // many} {unit}" for many, unit in UNITS if seconds >= many), "0 s")
