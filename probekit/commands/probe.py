"""`probekit probe`: from a run and a dataset to the table, the JSON and the picture."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from probekit.commands.hints import unprobeable
from probekit.data import check_channels, to_device
from probekit.h5 import DatasetInfo, read_info, read_split
from probekit.models.encoder import Encoder, build_encoder, encoder_file, load_encoder
from probekit.probe import PROTOCOLS
from probekit.probe.features import BATCH_SIZE, extract
from probekit.probe.figure import draw_probe
from probekit.probe.floors import floor_rows
from probekit.probe.protocol import Part, probe_images
from probekit.probe.table import probe_table
from probekit.registry import nearest
from probekit.run import Run, open_run, write_json
from probekit.train.pretrain import choose_device


def run_probe(
    name: str | None,
    *,
    data: Path | None,
    protocol: str,
    checkpoint: str,
    floors: bool,
    seed: int,
    device: str,
    runs: Path,
    console: Console,
    quiet: bool,
) -> dict[str, Any]:
    """Probes a run's frozen encoder and the floors on the same images.

    Args:
        name: The run, or None for the newest.
        data: A dataset file, or None for the run's own.
        protocol: One of `PROTOCOLS`.
        checkpoint: "last", "best_val" or "best_test".
        floors: Probe the floors too.
        seed: Of the validation part and of the random encoder.
        device: "auto", "cpu" or "cuda[:i]".
        runs: The folder of run folders.
        console: Where messages go.
        quiet: Leave the table out.

    Returns:
        {"run", "data", "protocol", "rows", ...}, as written to `results/`.

    Raises:
        ValueError: If there is no such run or checkpoint, or the data do not fit or have no labels or no test split.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(nearest("protocol", protocol, PROTOCOLS))
    started = time.monotonic()
    run = open_run(name, runs)
    if name is None:
        console.print(f"run: {run.path} (the newest)")
    info = dataset_of(run, data, console)
    encoder, header = load_encoder(run.path, checkpoint)
    _check(run, info, encoder)
    place = choose_device(device)
    console.print(f"probing {run.name}{' and the floors' if floors else ''}, protocol {PROTOCOLS[protocol]} ...")
    parts = {split: _images(info, split) for split in info.splits if info.splits[split].labelled}
    settings: dict[str, Any] = {"classes": info.classes, "protocol": protocol, "seed": seed}
    features = _embedder(encoder, place, header["max_size"])
    method = f"{header['method']} {_label(checkpoint)}"
    rows = [probe_images(method, "encoder", features, parts, **settings, with_health=True)]
    if floors:
        untrained = _embedder(_random_encoder(header["spec"], seed), place, header["max_size"])
        rows.append(probe_images("random weights", "floor", untrained, parts, **settings, with_health=True))
        rows += floor_rows(parts, **settings)
    result = {
        "run": run.name,
        "data": str(info.path),
        "protocol": protocol,
        "rows": rows,
        "checkpoint": checkpoint,
        "checkpoint_hash": sha256(encoder_file(run.path, checkpoint)),
        "epoch": header["epoch"],
        "data_hash": info.content_hash,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 2),
    }
    _write(run, result, None if data is None else data.stem, console)
    if not quiet:
        _print(run, result, data, console)
    return result


def dataset_of(run: Run, data: Path | None, console: Console) -> DatasetInfo:
    """The named dataset file, or the run's own; says so where it is not what the run was trained on."""
    trained = run.read()["dataset"]
    info = read_info(data or Path(trained["path"]))
    if info.content_hash != trained["hash"]:
        if data is None:
            console.print(f"warning: {info.path} has changed since {run.name} was trained on it")
        else:
            console.print(f"note: {run.name} was trained on {trained['path']}, and is probed on {info.path}")
    return info


def _check(run: Run, info: DatasetInfo, encoder: Encoder) -> None:
    missing = unprobeable(info)
    if missing is not None:
        raise ValueError(
            f"expected a train and a test split with labels of 2 classes or more, found {missing} in {info.path}; "
            f"type: probekit probe {run.name} --data LABELLED.h5 (probekit import SOURCE --test-fraction 0.2 makes one)"
        )
    check_channels(info, "train", encoder.spec["channels"])


def _print(run: Run, result: Mapping[str, Any], data: Path | None, console: Console) -> None:
    """The table, what stands out in it, and what to type next."""
    rows = result["rows"]
    console.print(f"{run.name}, epoch {result['epoch']}, on {result['data']}: {rows[0]['n']} test images")
    console.print(probe_table(rows), soft_wrap=False)
    above = [row["name"] for row in rows if row["kind"] == "floor" and row["accuracy"] > rows[0]["accuracy"]]
    console.print(_health(rows))
    if above:
        console.print(f"floors that beat the encoder: {', '.join(above)} (docs/protocols.md, Floors)")
    other = next(p for p in PROTOCOLS if p != result["protocol"])
    given = "" if data is None else f" --data {data}"
    console.print(f"next: probekit show --run {run.name}   or   probekit probe {run.name}{given} --protocol {other}")


def _health(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line: whether the embedding has collapsed."""
    found = rows[0]["health"]
    if found is None:
        return "health: unknown, only one test image"
    untrained = next((row["health"] for row in rows if row["name"] == "random weights"), None)
    beside = "" if untrained is None else f" (random weights: {_rank(untrained)})"
    dead = f", {found['dead']} of them dead" if found["dead"] else ""
    return f"health: effective rank {_rank(found)}{beside} of {found['dim']} dimensions{dead} (RankMe, centred)"


def _rank(found: Mapping[str, Any]) -> str:
    rank = found["rankme"]["centred"]
    return "0, all embeddings alike" if rank is None else f"{rank:.1f}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hex: which weights a result belongs to."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _label(checkpoint: str) -> str:
    return "best_test (paper protocol)" if checkpoint == "best_test" else checkpoint


def _random_encoder(spec: dict[str, Any], seed: int) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(spec)


def _images(info: DatasetInfo, name: str) -> Part:
    """A split with its images as `x`, labels, class factors and pairs."""
    split = read_split(info.path, name)
    assert split.labels is not None
    factors = {f["name"]: split.factors[f["name"]] for f in info.factors if f["kind"] == "class"}
    return Part(split.images, split.labels, factors, split.factors.get("pair_id"))


def _embedder(encoder: Encoder, device: torch.device, max_size: int) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    encoder.to(device)
    return lambda images: extract(encoder, to_device(images, device, max_size=max_size), batch_size=BATCH_SIZE)


def _write(run: Run, result: dict[str, Any], other_data: str | None, console: Console) -> None:
    stem = "-".join(filter(None, ("probe", result["protocol"], result["checkpoint"], other_data)))
    run.results.mkdir(exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    write_json(run.results / f"{stem}.json", result)
    draw_probe(result, run.figures / f"{stem}.png")
    console.print(f"wrote {run.results / f'{stem}.json'} and {run.figures / f'{stem}.png'}")
