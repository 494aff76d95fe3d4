"""`probekit probe`: from a run and a dataset to the table, the JSON and the picture."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from probekit.data import open_split
from probekit.h5 import DatasetInfo, read_info
from probekit.models.encoder import Encoder, build_encoder, encoder_file, load_encoder
from probekit.probe.features import extract
from probekit.probe.figure import draw_probe
from probekit.probe.floors import floor_rows
from probekit.probe.protocol import PROTOCOLS, Part, probe
from probekit.probe.table import probe_table
from probekit.registry import nearest
from probekit.run import Run, open_run, write_json
from probekit.train.pretrain import choose_device

BATCH_SIZE = 256  # images a forward pass: bounds memory, changes no number


def run_probe(
    name: str | None,
    *,
    data: Path | None,
    protocol: str,
    checkpoint: str,
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
    content = run.read()
    path = data or Path(content["dataset"]["path"])
    info = read_info(path)
    if data is None and info.content_hash != content["dataset"]["hash"]:
        console.print(f"warning: {path} has changed since {run.name} was trained on it")
    encoder, header = load_encoder(run.path, checkpoint)
    _check(info, encoder)
    place = choose_device(device)
    parts = {name: _images(path, name) for name, split in info.splits.items() if split.labelled}
    rows = []
    for row, net in (
        (f"{header['method']} {_label(checkpoint)}", encoder),
        ("random weights", _random_encoder(header["spec"], seed)),
    ):
        embedded = {
            split: _embed(net.to(place), path, split, part, header["max_size"]) for split, part in parts.items()
        }
        kind = "encoder" if net is encoder else "floor"
        rows.append(_row(row, kind, embedded, info, protocol, seed))
    rows += floor_rows(
        parts["train"], parts["test"], classes=info.classes, protocol=protocol, seed=seed, val=parts.get("val")
    )
    result = {
        "run": run.name,
        "data": str(path),
        "protocol": protocol,
        "rows": rows,
        "checkpoint": checkpoint,
        "checkpoint_hash": _sha256(encoder_file(run.path, checkpoint)),
        "epoch": header["epoch"],
        "data_hash": info.content_hash,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 2),
    }
    _write(run, result, None if data is None else data.stem, console)
    if not quiet:
        console.print(f"{run.name}, epoch {header['epoch']}, on {path}: {len(parts['test'].y)} test images")
        console.print(probe_table(rows), soft_wrap=False)
    return result


def _check(info: DatasetInfo, encoder: Encoder) -> None:
    for name in ("train", "test"):
        if name not in info.splits:
            raise ValueError(
                f"expected a {name} split in {info.path}, found {', '.join(info.splits)}; "
                "type: probekit import ... --test-fraction 0.2"
            )
    train = info.splits["train"]
    if not train.labelled or not info.splits["test"].labelled:
        raise ValueError(f"expected labels in {info.path}, found none; type: probekit probe --data LABELLED.h5")
    if train.channels != encoder.spec["channels"]:
        raise ValueError(
            f"expected images of {encoder.spec['channels']} channels, as the encoder was trained on, "
            f"found {train.channels} in {info.path}; choose another --data or run"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _label(checkpoint: str) -> str:
    return "best_test (paper protocol)" if checkpoint == "best_test" else checkpoint


def _random_encoder(spec: dict[str, Any], seed: int) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(spec)


def _images(path: Path, name: str) -> Part:
    """A split as the floors want it: images at their own size, labels, class factors, pairs."""
    info = read_info(path)
    split = open_split(path, name, torch.device("cpu"), max_size=max(info.splits[name].height, info.splits[name].width))
    held = split.split
    assert held.labels is not None
    factors = {f["name"]: held.factors[f["name"]] for f in info.factors if f["kind"] == "class"}
    return Part(held.images, held.labels, factors, held.factors.get("pair_id"))


def _embed(encoder: Encoder, path: Path, name: str, part: Part, max_size: int) -> Part:
    device = next(encoder.parameters()).device
    images = open_split(path, name, device, max_size=max_size).images
    return Part(extract(encoder, images, batch_size=BATCH_SIZE), part.y, part.factors, part.groups)


def _row(
    name: str, kind: str, parts: Mapping[str, Part], info: DatasetInfo, protocol: str, seed: int
) -> dict[str, Any]:
    return probe(
        name,
        kind,
        parts["train"],
        parts["test"],
        classes=info.classes,
        protocol=protocol,
        seed=seed,
        val=parts.get("val"),
    )


def _write(run: Run, result: dict[str, Any], other_data: str | None, console: Console) -> None:
    stem = "-".join(filter(None, ("probe", result["protocol"], result["checkpoint"], other_data)))
    run.results.mkdir(exist_ok=True)
    run.figures.mkdir(exist_ok=True)
    write_json(run.results / f"{stem}.json", result)
    draw_probe(result, run.figures / f"{stem}.png")
    console.print(f"wrote {run.results / f'{stem}.json'} and {run.figures / f'{stem}.png'}")
