"""`probekit runs`: every run of a folder in a line."""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from probekit.files import read_json
from probekit.measurement import read_result
from probekit.probe import SIGNED
from probekit.run import Run, find_runs
from probekit.visible import first_line

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))  # seconds in each


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """What every run of a folder is, the newest first, then the folders that hold none that can be read.

    A run has name, path, method (with its branches, joined by "+"), data, epoch (the last that was trained, or null),
    epochs, state, accuracy (a fraction, or null, which it is where only the monitor's kappa is known), accuracy_of
    ("linear probe", "monitor on test", "monitor on val" or null), changed (when, ISO 8601) and age (seconds since). A
    folder that cannot be read has name, path and problem, a line.
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
    for title in ("run", "method", "data", "epoch", "state", "accuracy %", "of", "age"):
        table.add_column(title, justify="right" if title in ("epoch", "accuracy %", "age") else "left", overflow="fold")
    for entry in sound:
        accuracy = "-" if entry["accuracy"] is None else f"{100 * entry['accuracy']:.1f}"
        texts = (entry["name"], entry["method"], entry["data"], _epochs(entry), entry["state"], accuracy)
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
    lines = [line for line in run.read_metrics() if isinstance(line.get("epoch"), int)]
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
    """The accuracy of the last encoder's linear probe on the run's own data, the default protocol's before others'."""
    for path in sorted(run.results.glob("linear-*.json"), key=lambda path: ("-tuned-" not in path.stem, path.name)):
        with suppress(ValueError, OSError):
            result = read_json(path)
            reader = read_result(result)
            last = result["checkpoint"] == "last" and result["data_hash"] == content["dataset"]["hash"]
            if last and epoch in (None, result["epoch"]):
                score = next(iter(reader.encoder_scores(result).values()))
                return score.value, reader.title.lower()
    return None, None


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _epochs(entry: Mapping[str, Any]) -> str:
    done, planned = entry["epoch"], entry["epochs"]
    if done is None:
        return "-"
    return str(done) if planned in (None, done) else f"{done} of {planned}"


def _age(seconds: int) -> str:
    """7300 -> "2 h"."""
    return next((f"{seconds // many} {unit}" for many, unit in UNITS if seconds >= many), "0 s")
