"""`probe`, `heatmap`, `exam` and `report` of Python: the commands' own functions, on whatever `load` opens.

A run keeps its results in its folder, as it does when the command is typed. Any other encoder is measured in a folder
that is gone afterwards: its results are what comes back.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console
from torch import nn

from probekit.api.kinds import refuse_misfits
from probekit.api.result import Result, Results
from probekit.data.dataset import Dataset
from probekit.exams.measurement import Exam
from probekit.exams.run import exam_run
from probekit.h5 import DatasetInfo, verify
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.over_depth import depth_run
from probekit.heatmaps.run import heatmap_run
from probekit.measurement import Measurement, measurement
from probekit.output.console import Terminal
from probekit.probes.measure import probe_run
from probekit.probes.measurements.base import Probe
from probekit.registry import check_named
from probekit.reports.page import run_report
from probekit.restore.load import colour_or_grey, load
from probekit.restore.opened import Opened, OpenedRun
from probekit.restore.temporary import in_a_run

Encoder = Opened | nn.Module | str | Path
Data = Dataset | str | Path
M = TypeVar("M", bound=Measurement)


def probe(
    encoder: Encoder,
    data: Data | None = None,
    *,
    also: str | Measurement | Sequence[str | Measurement] = (),
    protocol: str = "tuned",
    baselines: bool = True,
    seed: int = 0,
    verbose: bool = False,
) -> Results:
    """What a linear probe reads of an encoder's embeddings, beside baselines that need no learning.

    A ValueError if the data do not fit the encoder, or lack what is asked for.

    Args:
        encoder: What `load` opens, or opened: a run, "timm:NAME", a module, ...
        data: A dataset file or a `Dataset` of one; None is the run's own.
        also: Further measurements by name ("knn", "retrieval", "depth" for every layer, ...), or with their options.
        protocol: "tuned" or "fixed" (docs/protocols.md).
        baselines: Whether they are measured, too.
        seed: Decides all that is random: the validation part, random weights, subsets, bootstraps.
        verbose: Whether to print what the command prints on its way.

    Returns:
        "linear" and others by name, as the command's `--json`.
    """
    several = [also] if isinstance(also, str | Measurement) else also
    typed = [measurement(each) if isinstance(each, str) else each for each in several]
    asked = [each for each in typed if isinstance(each, Probe)]
    if len(asked) < len(typed):
        found = next(each.name for each in typed if not isinstance(each, Probe))
        raise ValueError(f"expected measurements of `probekit probe`, found {found}, a function of its own")
    info = _info(data)
    with _run_of(encoder, info) as (opened, path):
        about: dict[str, Any] = {"protocol": protocol, "baselines": baselines, "seed": seed}
        return Results(probe_run(opened, asked, data=path, console=_console(verbose), **about))


def heatmap(
    encoder: Encoder,
    data: Data | None = None,
    *,
    layer: Literal["all"] | None = None,
    seed: int = 0,
    verbose: bool = False,
    **options: Any,
) -> Result:
    """Where an encoder looks, against where the evidence is; see `probe`.

    Args:
        encoder: As of `probe`.
        data: As of `probe`.
        layer: "all" scores the maps of every layer, a curve over depth; `load` opens an encoder at one layer.
        seed: Decides random weights and what is shuffled.
        verbose: Whether to print what the command prints on its way.
        **options: Those of the command, as `probekit.heatmaps.measurement.Heatmap` has them: `maps="cam,gradcam"` or
            `maps=("cam", "gradcam")`, `n=100`.
    """
    if layer not in (None, "all"):
        raise ValueError(
            f"expected layer='all' or none, found {layer!r}; one layer is read by load(.., layer={layer!r})"
        )
    asked, info = _asked(Heatmap, options), _info(data)
    with _run_of(encoder, info) as (opened, path):
        about: dict[str, Any] = {"data": path, "seed": seed, "console": _console(verbose)}
        if layer is not None:
            return Result(depth_run(opened, asked, **about))
        return Result(heatmap_run(opened, asked, **about).result, _gallery(opened))


def exam(encoder: Encoder, *, verbose: bool = False, **options: Any) -> Result:
    """The smallest details that an encoder reads, in pixels, and the wholes that it sees (docs/exam.md).

    A ValueError if it does not take images of this size.

    Args:
        encoder: As of `probe`.
        verbose: Whether to print what the command prints on its way.
        **options: Those of the command: `parts="acuity"`, `items=("landolt", "corner")`, `size=128`, ...
            (`probekit.exams.measurement.Exam`).
    """
    asked = _asked(Exam, options)
    with _run_of(encoder, None, size=asked.size) as (opened, _):
        return Result(exam_run(opened, asked, console=_console(verbose)).result)


def report(*runs: str | Path | Opened, out: str | Path | None = None) -> Path:
    """Writes one page of all that is known of some runs, and returns its path.

    A ValueError if there is no such run, or another file of that name.

    Args:
        *runs: By name, path or as `load` opened them; none is the newest.
        out: The file; None is report.html in the run's folder, or `runs/NAMES.html` of several.
    """
    other = next((run for run in runs if isinstance(run, Opened) and not isinstance(run, OpenedRun)), None)
    if other is not None:
        raise ValueError(f"expected runs, found {other.name}, which keeps no results; print what was measured")
    names = [str(run.run.path if isinstance(run, OpenedRun) else run) for run in runs]
    path, folder = None if out is None else Path(out), Path("runs")
    written = run_report(names, out=path, form="html", runs=folder, reports=folder, console=_console(verbose=False))
    assert isinstance(written, Path)
    return written


def _gallery(opened: OpenedRun) -> dict[str, bytes]:
    """The picture that was drawn last, which is of the result."""
    drawn = sorted(opened.run.figures.glob("heatmap-*gallery.png"), key=lambda path: path.stat().st_mtime_ns)
    return {"gallery": drawn[-1].read_bytes()} if drawn else {}


def _asked(kind: type[M], options: Mapping[str, Any]) -> M:
    """A measurement with options; a string of what may be several is read as the command reads it."""
    known = {part.name: part.metadata for part in fields(kind)}
    for name in options:
        check_named("option", name, known)
    read = {name: known[name].get("read") for name in options}
    given = {name: each(v) if (each := read[name]) and isinstance(v, str) else v for name, v in options.items()}
    refuse_misfits(kind, given)
    return kind(**given)


def _info(data: Data | None) -> DatasetInfo | None:
    """The dataset file, verified."""
    if isinstance(data, Dataset):
        if not data.info.content_hash:
            raise ValueError(
                f"expected a dataset file, found {data.info.path}; to have one: "
                f"probekit.generate({data.info.generator!r}, n=..., out='data.h5')"
            )
        return data.info
    return None if data is None else verify(Path(data))


@contextmanager
def _run_of(encoder: Encoder, info: DatasetInfo | None, *, size: int = 128) -> Iterator[tuple[OpenedRun, Path | None]]:
    """The encoder as one of a run, and the dataset file that is named beside it."""
    if not isinstance(encoder, Opened):
        source, side = encoder, size if info is None else info.first.height
        if info is None:
            encoder = colour_or_grey(lambda channels: load(source, channels=channels, size=side))
        else:
            encoder = load(source, channels=info.first.channels, size=side)
    path = None if info is None else info.path
    if isinstance(encoder, OpenedRun):
        yield encoder, path
        return
    with in_a_run(encoder, info) as opened:
        yield opened, path


def _console(verbose: bool) -> Console:
    return Terminal(stderr=False) if verbose else Console(quiet=True)
