"""The files of results/ and figures/: what a new result takes the place of, and what it stands beside."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from probekit.files import name_of, read_json
from probekit.measurement import BASELINE, Measurement, read_result
from probekit.run import Run, numbered, write_json
from probekit.weights import LAST, Weights

if TYPE_CHECKING:
    from rich.console import Console

MOST_NAMES = 80  # characters of the names of several runs in that of a file


def write_result(
    run: Run, reader: Measurement, result: Mapping[str, Any], stem: str, figures: Mapping[str, Any] = {}
) -> list[Path]:
    """Writes results/STEM.json, and figures/STEM-KEY.png for each chart, of photographs a dark one, too.

    From an older result of the same request it keeps the baselines that this one left out (--no-baselines). `stem`: the
    name that it has if nothing else stands there; `figures`: charts that were drawn already, by key: what they show is
    not in the result. Returns what was written, the result first.
    """
    from probekit.output.pictures import encoder_name, entitle, files_of, save, save_both

    stem, before = place_for(run.results, stem, result, reader.own_images)
    if before:
        result = _with_rows(result, before)
    run.results.mkdir(exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    pictures = []
    for chart in reader.charts(result):  # before the result: what stands in results/ is whole
        figure = figures[chart.key] if chart.key in figures else chart.draw()
        if not chart.photographs:
            entitle(figure, f"{chart.title}: {encoder_name(result)} on {data_name(result)}")
        place = picture_of(run, stem, chart.key)
        pictures += files_of((save_both if chart.photographs else save)(figure, place))
    write_json(run.results / f"{stem}.json", dict(result))
    return [run.results / f"{stem}.json", *pictures]


def data_name(result: Mapping[str, Any]) -> str:
    """For a title: of a file its name alone, else what the images are."""
    data = str(result["data"])
    return name_of(Path(data)) if data.endswith(".h5") else data


def stem_of(parts: Iterable[str], data: Path | None) -> str:
    """How a result's files are called: what was measured how, and another dataset than the run's own."""
    return "-".join((*dict.fromkeys(parts), *([] if data is None else [name_of(data)])))


def picture_of(run: Run, stem: str, chart: str) -> Path:
    """Where the chart of a result was drawn."""
    return run.figures / f"{stem}-{chart}.png"


def typed_again(
    command: str, run: Run, weights: Weights, words: Iterable[str], *, data: Path | None = None, seed: int = 0
) -> str:
    """What to type for the same result; `words`: of what is measured, `data`: the file that was named, if one was."""
    typed = ["probekit", command, run.argument, *words]
    typed += [] if data is None else ["--data", str(data)]
    typed += ["--seed", str(seed)] if seed else []
    return join([*typed, *([] if weights == LAST else ["--checkpoint", str(weights)])])


def refuse_twice(runs: Sequence[Run]) -> None:
    """Refuses a run that is named twice, by name and by path perhaps."""
    paths = [run.path.resolve() for run in runs]
    twice = next((run.name for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"expected each run once, found {twice} twice; leave one out")


def joined_name(runs: Sequence[Run]) -> str:
    """What a file about several runs is called: after all, or where that is long after the first and a hash of all."""
    joined = "+".join(run.name for run in runs)
    if len(joined) <= MOST_NAMES:
        return joined
    return f"{runs[0].name[:MOST_NAMES]}+{len(runs) - 1}-more-{sha256(joined.encode()).hexdigest()[:8]}"


def place_for(folder: Path, stem: str, result: Mapping[str, Any], own_images: bool) -> tuple[str, dict[str, Any]]:
    """Under which name a result is to stand, and the older one whose place it takes.

    It takes the place of a result of the same command, of the same file before its contents changed, or of weights that
    are no longer there; every other file stays, and this result stands beside it. Returns the name, and the older
    result, empty where there is none. `result`: it, with checkpoint_hash, data, data_hash and command. `own_images`:
    no file's contents change then; other images are another request.
    """
    for name in numbered(stem):
        if not (folder / f"{name}.json").exists():
            return name, {}
        before = _read(folder / f"{name}.json")
        if _replaces(result, before, own_images):
            return name, before
    raise AssertionError  # there is always another number


def _with_rows(result: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """A result with those baselines of the same request to the same weights that it was not asked for."""
    if any(before.get(key) != result.get(key) for key in ("checkpoint_hash", "data_hash", "command")):
        return result
    older = before.get("rows")
    names = {row["name"] for row in result["rows"]}
    known = [row for row in older if isinstance(row, dict)] if isinstance(older, list) else []
    rows = [row for row in known if row.get("kind") == BASELINE]  # encoders that are gone are not
    return {**result, "rows": [*result["rows"], *(row for row in rows if row.get("name") not in names)]}


def _replaces(result: Mapping[str, Any], before: Mapping[str, Any], own_images: bool) -> bool:
    same = {key: before.get(key) == result.get(key) for key in ("checkpoint_hash", "data_hash", "data", "command")}
    if not isinstance(before.get("command"), str):  # no file of ours
        return False
    if not same["checkpoint_hash"]:
        return True
    return same["command"] if same["data_hash"] or own_images else same["data"]


def _read(path: Path) -> dict[str, Any]:
    with suppress(ValueError):
        return read_json(path)
    return {}


def show_results(results: Iterable[Mapping[str, Any]], console: "Console", *, full: bool = False) -> None:
    """Prints the tables of results, and what stands out in them; `full`: the tables of terse ones, too."""
    from probekit.output.terminal import show_table

    for result in results:
        reader = read_result(result)
        console.print(f"{reader.title}. {result['how']}")
        for table in reader.tables(result) if full or not reader.terse else ():
            if not table.folded:
                show_table(table, console, title=table.title if table.title != reader.title else "")
                if table.how:
                    console.print(table.how)
        for line in [*reader.sentences(result), *result.get("certificate", ())]:
            console.print(line)
        console.print()
