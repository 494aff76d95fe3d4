"""From an opened encoder and a dataset file to the scores of its maps at every layer, one prepared after another."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from probekit.h5 import DatasetInfo
from probekit.heatmaps.depth import MapDepth, kept_scores
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.protocol import BASELINES, Scored, localised
from probekit.heatmaps.run import prepare
from probekit.heatmaps.tables import CEILING, MAP
from probekit.measurement import BASELINE, ENCODER
from probekit.probes.measurements.depth import readable
from probekit.restore.opened import OpenedRun
from probekit.results import stem_of, typed_again, write_result
from probekit.weights import RANDOM

OF_THE_GRID = "random"  # a baseline that is another one on each grid, and so none of all layers


def depth_run(
    opened: OpenedRun, asked: Heatmap, *, data: Path | None = None, seed: int = 0, console: Console
) -> dict[str, Any]:
    """Scores the maps of each layer of a run's encoder, and writes results/ and figures/ (docs/heatmaps.md).

    As `heatmap_run`, without its perturbation scores. A ValueError if the images have no masks, or a map that was asked
    for is to be had of no layer.
    """
    started, depth = time.monotonic(), MapDepth()
    info, _ = opened.dataset(data)
    refuse_unmasked(info)
    views, left_out = readable(opened)
    asked = replace(asked, perturb=0)
    words = [*asked.words, *depth.words]
    rows: dict[str, dict[str, Any]] = {}
    with opened.run.locked("heatmap"):
        settings: dict[str, Any] = {}
        for view in views:
            layer = str(view.weights.layer)
            console.print(f"  maps of {layer} ...")
            try:
                work, settings = prepare(view, info, asked, seed, Console(quiet=True))
                found = localised(work, asked.maps, lambda line: None)
            except ValueError as error:
                left_out.append(f"{layer}: {error}")
                continue
            about = {"layer": layer, "depth": view.layers.depth(layer)}
            for row in _rows(found, about):
                rows.setdefault(row["name"], row)["scores"] |= row["scores"]
        if not any(row["kind"] == ENCODER for row in rows.values()):
            raise ValueError(left_out[-1])
        opened.refuse_replaced(info)
        result = {
            "schema": depth.schema(),
            "run": opened.run.name,
            "data": str(info.path),
            "data_hash": info.content_hash,
            "checkpoint": str(opened.weights),
            "checkpoint_hash": opened.hash,
            **{key: settings[key] for key in ("epoch", "split", "n", "target", "protocol")},
            "how": f"Maps of {settings['n']} images of the split {settings['split']}. {depth.about}",
            "options": depth.settled({asked.name: asked}),
            "seed": seed,
            "command": typed_again("heatmap", opened.run, opened.weights, words, data=data, seed=seed),
            "notes": settings["notes"],
            "left_out": left_out,
            "rows": sorted(rows.values(), key=lambda row: (ENCODER, CEILING, BASELINE).index(row["kind"])),
        }
        result["seconds"] = round(time.monotonic() - started, 2)
        written = write_result(opened.run, depth, result, stem_of((depth.name, result["checkpoint"]), data))
        pictures = f", and {len(written) - 1} in {opened.run.figures}" if written[1:] else ""
        console.print(f"wrote {written[0]}{pictures}")
    return result


def refuse_unmasked(info: DatasetInfo) -> None:
    """Refuses a file without masks, against which alone maps are scored over depth."""
    if not info.mask_names:
        raise ValueError(
            f"expected masks in {info.path} for the maps of all layers, found none; "
            "type: probekit probe RUN --layer all"
        )


def _rows(found: Scored, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is kept of one layer; maps of several targets are one row."""
    kinds = {MAP: ENCODER, CEILING: CEILING, BASELINE: BASELINE}
    for entry in found.entries:
        scores = kept_scores(entry["scores"], entry["target"])
        row = {"kind": kinds[entry["kind"]], "map": entry["map"], "grid": entry["grid"], "scores": scores}
        if entry["map"] in BASELINES:
            if entry["map"] != OF_THE_GRID:
                yield {"name": entry["name"], **row}
            continue
        sign = "-" * entry["name"].startswith("-")  # of a map whose negative is a row, too
        named = f"{sign}{entry['map']}" if entry["map"] else CEILING
        before = f"{RANDOM}, " if entry["encoder"] == "random" else ""
        yield {"name": f"{before}{about['layer']}, {named}", **row, "map": named, **about}
