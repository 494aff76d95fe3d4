"""Maps of several encoders side by side: each is measured as by itself, and one picture has the maps of all."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from probekit.data.split import check_channels
from probekit.h5 import read_info
from probekit.heatmaps.draw import draw_together
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.run import heatmap_run
from probekit.output.pictures import check_picture, names_of, save
from probekit.restore.opened import OpenedRun
from probekit.results import joined_name, refuse_twice


def heatmap_runs(
    opened: Sequence[OpenedRun],
    asked: Heatmap,
    *,
    data: Path | None = None,
    seed: int = 0,
    out: Path | None = None,
    folder: Path,
    console: Console,
) -> list[dict[str, Any]]:
    """As `heatmap_run` of each; of several it also draws the maps of the same images, a row for each encoder.

    `out`: the picture; None is one in `folder`, named after the runs. A ValueError if a run is named twice, the runs
    have different images and none were named, or `out` is no picture that may be replaced.
    """
    if len(opened) > 1:
        out = folder / f"maps-{joined_name([each.run for each in opened])}.png" if out is None else out
        check_picture(out)
        _check(opened, data)
    found = [heatmap_run(each, asked, data=data, seed=seed, console=console) for each in opened]
    results = [each.result for each in found]
    if out is not None:
        figure = draw_together(results, found[0].truth, [each.rows for each in found])
        console.print(f"picture {names_of(save(figure, out))}")
    return results


def _check(opened: Sequence[OpenedRun], data: Path | None) -> None:
    """Refuses runs that cannot be drawn over the same images, before any is measured."""
    refuse_twice([each.run for each in opened])
    for each in opened:
        check_channels(read_info(data or each.run.data()), each.encoder.spec["channels"])
    files = {} if data is not None else {read_info(each.run.data()).content_hash: each.run for each in opened}
    if len(files) > 1:
        first, second, *_ = (run.data() for run in files.values())
        raise ValueError(
            f"expected runs on the same images, found {first} and {second}; type: --data {quote(str(first))}"
        )
