"""`probekit probe`: from a run and a dataset to tables, JSON and pictures; `protocols` has what is measured."""

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from probekit.commands.every import EVERY, along_checkpoints, kept_encoders
from probekit.commands.probe_options import SGD, ProbeOptions
from probekit.commands.protocols import SECTIONS, Row, Settings, sections_for
from probekit.commands.results import place_for
from probekit.data.locate import run_or_newest
from probekit.probe.sources import Source, read_labels, sources
from probekit.data.split import check_channels
from probekit.device import choose_device
from probekit.probe import PROTOCOLS
from probekit.probe.curves import draw_every
from probekit.probe.scores import against_floors
from probekit.probe.section_tables import every_table, fingerprint_table
from probekit.registry import METHODS, get
from probekit.restore.opened import RANDOM, OpenedRun, open_encoder
from probekit.run import IMPORTED, Run, how_far, write_json
from probekit.statistics import VERDICTS
from probekit.weights import Weights


def run_probe(
    name: str | None,
    *,
    data: Path | None,
    protocol: str,
    weights: Weights,
    floors: bool,
    seed: int,
    device: str,
    runs: Path,
    console: Console,
    quiet: bool,
    options: ProbeOptions | None = None,
) -> dict[str, Any]:
    """Probes a run's frozen encoder and the floors on the same images.

    Args:
        name: The run, or None for the newest.
        data: A dataset file, or None for the run's own.
        protocol: One of `PROTOCOLS`, or "sgd": then other sections take the default.
        weights: Which of its weights, and how they are pooled.
        floors: Probe the floors too.
        seed: Of everything random: the validation part, the random encoder, subsets, folds, bootstraps.
        device: "auto", "cpu" or "cuda[:i]".
        runs: The folder of run folders.
        console: Where messages go.
        quiet: Leave the tables out.
        options: What stands beside the linear probe; None is nothing.

    Returns:
        {"run", "data", "protocol", "rows", ...} of the linear probe, and every other section under its name, each as
        written to `results/`. Without a linear probe (no test split, several labels an image) only these.

    Raises:
        ValueError: If there is no such run or checkpoint, or the data do not fit or lack what is asked for.
    """
    options = options or ProbeOptions()
    assert protocol in (*PROTOCOLS, SGD)
    assert (options.recipe is not None) == (protocol == SGD)
    fitted = next(iter(PROTOCOLS)) if protocol == SGD else protocol
    run = run_or_newest(name, runs, console)
    opened = open_encoder(run, weights, choose_device(device))
    info, known = opened.dataset(data)
    for line in known:
        console.print(line)
    _say_if_taught(opened, console)
    labels = read_labels(info)
    wanted = sections_for(shlex.quote(run.argument), labels, options)
    check_channels(info, opened.header["spec"]["channels"])
    kept = kept_encoders(opened) if options.every else []
    settings = Settings(labels, options, fitted, seed, str(opened.device), console)
    console.print(
        f"probing {run.name}, {opened.after}{', and the floors' if floors else ''}, "
        f"protocol {PROTOCOLS.get(protocol, SGD)} ..."
    )
    with run.locked("probe"):  # two at once would write one result
        notes: list[str] = []
        found = sources(opened, info, floors=floors, seed=seed, say=notes.append)
        rows, seconds = _measure(found, wanted, settings, console)
        opened.refuse_replaced(info)
        about = {
            "checkpoint": str(weights),
            "checkpoint_hash": opened.hash,
            "epoch": opened.header["epoch"],
            "data_hash": info.content_hash,
            "seed": seed,
            "notes": notes,
        }
        for line in notes:
            console.print(f"note: {line}")
        again = [*([] if data is None else ["--data", str(data)]), "--seed", str(seed)]
        results = {
            section: _result(run, section, settings, rows[section], about, again)
            | {"seconds": round(seconds[section], 2)}
            for section in wanted
        }
        if kept:
            along = along_checkpoints(opened, kept, wanted, rows, settings)
            results["every"] = along | {
                "command": _command(run, "every", settings, [*again, "--checkpoint", str(weights)]),
                "notes": notes,
            }
        other_data = None if data is None else data.stem
        for section, result in results.items():
            _write(run, section, result, other_data, console)
    if not quiet:
        _print(run, results, data, console)
    return {**results.pop("linear", {}), **results}


def _say_if_taught(opened: OpenedRun, console: Console) -> None:
    method = opened.header["method"]
    if method in METHODS and get(METHODS, "method", method).needs_labels:
        console.print(
            f"note: {opened.run.name} was taught with the labels of train, so what is chosen or scored on train "
            "(C, --cv, best_val) is too good; test is not"
        )


def _measure(
    found: Iterable[Source], wanted: Sequence[str], settings: Settings, console: Console
) -> tuple[dict[str, list[Row]], dict[str, float]]:
    """The rows of each section, and the seconds that they took; embedding counts where it is needed first."""
    rows: dict[str, list[Row]] = {section: [] for section in wanted}
    seconds = dict.fromkeys(wanted, 0.0)
    for source in found:
        for name in wanted:
            section = SECTIONS[name]
            if source.kind == "encoder" or source.name in section.floors:
                if len(wanted) > 1:
                    console.print(f"  {source.name}: {section.title.lower()} ...")
                started = time.monotonic()
                rows[name].append(section.row(source, settings))
                seconds[name] += time.monotonic() - started
    return rows, seconds


def _result(
    run: Run, name: str, settings: Settings, rows: Sequence[Row], about: Mapping[str, Any], again: Sequence[str]
) -> dict[str, Any]:
    """What a section's file holds, but for the seconds."""
    section = SECTIONS[name]
    words = [*again, "--checkpoint", about["checkpoint"]]
    return {
        "run": run.name,
        "data": str(settings.labels.info.path),
        "protocol": section.protocol(name, settings),
        "how": section.how(settings),
        "command": _command(run, name, settings, words),
        "rows": rows,
        **about,
    }


def _command(run: Run, section: str, settings: Settings, again: Sequence[str]) -> str:
    """What to type for the same numbers."""
    protocol = SGD if section == SGD else settings.protocol
    words = [*settings.options.words(section), "--protocol", protocol, *again]
    return shlex.join(["probekit", "probe", run.argument, *words])


def _write(run: Run, name: str, result: dict[str, Any], other_data: str | None, console: Console) -> None:
    """results/STEM.json, and figures/STEM.png where there is something to draw.

    Of an older result of the same request it keeps the rows that this one left out (--no-floors).
    """
    stem, before = place_for(run.results, "-".join(filter(None, (*_stem(name, result), other_data))), result)
    if before:
        result = _with_rows(result, before)
    draw = draw_every if name == "every" else SECTIONS[name].draw
    run.results.mkdir(exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    if draw is not None:  # before the result: what stands in results/ is whole
        draw(result, run.figures / f"{stem}.png")
    write_json(run.results / f"{stem}.json", result)
    drawn = "" if draw is None else f" and {run.figures / f'{stem}.png'}"
    console.print(f"wrote {run.results / f'{stem}.json'}{drawn}")


def _with_rows(result: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A result with those rows of the same request to the same weights that it was not asked for."""
    if any(before.get(key) != result.get(key) for key in ("checkpoint_hash", "data_hash", "command")):
        return result
    kept = {}
    for part in result.keys() & {"rows", "floors"}:
        older = before.get(part)
        names = {row["name"] for row in result[part]}
        rows = [row for row in older if isinstance(row, dict)] if isinstance(older, list) else []
        kept[part] = [*result[part], *(row for row in rows if row.get("name") not in names)]
    return result | kept


def _stem(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    if name == "every":
        pool = Weights.parse(result["points"][-1]["checkpoint"]).pool
        return (
            str(Weights(name, pool)),
            result["protocol"],
            *(section for section in result["sections"] if section != "linear"),
        )
    section = SECTIONS[name]
    if name == SGD and "map" in result["rows"][0]:  # several labels an image: read as such
        return "multilabel", result["protocol"], result["checkpoint"]
    return section.stem or name, *([result["protocol"]] if section.fits else []), result["checkpoint"]


def _print(run: Run, results: Mapping[str, Mapping[str, Any]], data: Path | None, console: Console) -> None:
    """The tables, what stands out in them, and what to type next."""
    first = next(iter(results.values()))
    for name, result in results.items():
        if name == "linear":
            count = result["rows"][0]["n"]
            console.print(
                f"{run.name}, {how_far(run.read(), result['epoch'])}, on {result['data']}: {count} test images"
            )
        else:
            console.print(f"{EVERY if name == 'every' else SECTIONS[name].title}. {result['how']}")
        table = (
            every_table(result["points"], result["floors"]) if name == "every" else SECTIONS[name].table(result["rows"])
        )
        console.print(table, soft_wrap=False)
        if name == "linear":
            _print_notes(result["rows"], console)
        elif name == SGD:
            _print_best(result["rows"][0], console)
        elif name == "retrieval" and result["rows"][0]["fingerprint"]:
            console.print(fingerprint_table(result["rows"]), soft_wrap=False)
    other = next(p for p in PROTOCOLS if p != first["protocol"])
    pool = Weights.parse(first["checkpoint"]).pool
    name = shlex.quote(run.argument)
    given = ("" if data is None else f" --data {shlex.quote(str(data))}") + ("" if pool is None else f" --pool {pool}")
    drawn = run.read()["state"] == IMPORTED or pool is not None
    look = f"probekit heatmap {name}{given}" if drawn else f"probekit show {name}"
    console.print(f"next: {look}   or   probekit probe {name}{given} --protocol {other}")


def _print_notes(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Whether the embedding has collapsed, and what a paired test says of the encoder and each floor."""
    console.print(_health(rows))
    told = against_floors(rows)
    named = {said: [name for name, found in told.items() if found == said] for said in VERDICTS}
    parts = [f"{said} {', '.join(names)}" for said, names in named.items() if names]
    if parts:
        console.print(f"on the same test images the encoder is {'; '.join(parts)} (docs/protocols.md, Floors)")


def _print_best(row: Mapping[str, Any], console: Console) -> None:
    best, last = row["best_test"], len(row["by_epoch"])
    console.print(f"best epoch on test (paper protocol): {best['score']:.1%} at {best['epoch']} of {last}")


def _health(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line: whether the embedding has collapsed."""
    found = rows[0]["health"]
    if found is None:
        return "health: unknown, only one test image"
    untrained = next((row["health"] for row in rows if row["name"] == RANDOM), None)
    beside = "" if untrained is None else f" (random weights: {_rank(untrained)})"
    dead = f", {found['dead']} of them dead" if found["dead"] else ""
    most = found["n"] - 1  # centred, so many images span no more directions
    few = f"at most {most} with {found['n']} test images, " if most < found["dim"] else ""
    return f"health: effective rank {_rank(found)}{beside} of {few}{found['dim']} dimensions{dead} (RankMe, centred)"


def _rank(found: Mapping[str, Any]) -> str:
    rank = found["rankme"]["centred"]
    return "0, all embeddings alike" if rank is None else f"{rank:.1f}"
