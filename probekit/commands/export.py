"""`probekit export-embeddings`: embeddings, labels and factors of every split in one npz or HDF5 file."""

import json
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from probekit.commands.locate import run_or_newest
from probekit.commands.probe import dataset_of
from probekit.commands.results import refuse_replaced
from probekit.data.split import check_channels
from probekit.device import choose_device
from probekit.files import replaced
from probekit.h5 import DatasetInfo, read_split
from probekit.h5.target import Target
from probekit.restore.embeddings import trained_embedder
from probekit.restore.pooled import pool_warnings
from probekit.run import Run, encoder_file, how_far

FORMAT = "probekit-embeddings/1"
SUFFIXES = (".npz", ".h5")


def run_export(
    name: str | None,
    *,
    data: Path | None,
    out: Path | None,
    checkpoint: str,
    device: str,
    runs: Path,
    overwrite: bool,
    console: Console,
) -> Path:
    """Writes what other tools need to work on a run's embeddings.

    Args:
        name: The run, or None for the newest.
        data: A dataset file, or None for the run's own.
        out: NAME.npz or NAME.h5; None is embeddings-CHECKPOINT.npz in the run folder.
        checkpoint: "last", "best_val", "best_test" or "epoch-NNNN".
        device: "auto", "cpu" or "cuda[:i]".
        runs: The folder of run folders.
        overwrite: Replace `out`.
        console: Where messages go.

    Returns:
        The file: `SPLIT/embeddings` float32 `[N, D]`, `SPLIT/labels` and `SPLIT/factors/NAME` as the dataset file has
        them, and `header`, JSON text (in HDF5 an attribute): format, run, checkpoint, checkpoint_hash, after (how far
        the run was), data, data_hash, classes, splits, encoder (its own header).

    Raises:
        ValueError: If `out` exists, is no file of embeddings or has another suffix, or there is no such run, checkpoint
            or data.
    """
    run = run_or_newest(name, runs, console)
    out = out or run.path / f"embeddings-{checkpoint}.npz"
    if out.suffix not in SUFFIXES:
        raise ValueError(
            f"expected a file NAME.npz or NAME.h5, found {out}; type --out {quote(str(out.with_suffix('.npz')))}"
        )
    if out.exists() and not _exported(out):
        raise ValueError(
            f"expected a file of embeddings or nothing at {out}, found something else; choose another --out"
        )
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; type --overwrite to replace it, or another --out")
    info = dataset_of(run, data, console)
    with run.locked("probe"):  # which embeds, too
        return _export(run, info, out, checkpoint, choose_device(device), console)


def _export(run: Run, info: DatasetInfo, out: Path, checkpoint: str, device: torch.device, console: Console) -> Path:
    weights = encoder_file(run.path, checkpoint)
    embedder, header = trained_embedder(run, checkpoint, device)
    measured = embedder.key["encoder"]
    for line in pool_warnings(embedder.network().encoder):
        console.print(line)
    far = how_far(run.read(), header["epoch"])
    check_channels(info, header["spec"]["channels"])
    arrays: dict[str, NDArray[Any]] = {}
    for split in info.splits:
        arrays[f"{split}/embeddings"] = embedder(info, split)
        rows = read_split(info.path, split, images=False)
        labels, factors = rows.labels, rows.factors
        arrays |= {} if labels is None else {f"{split}/labels": labels}
        arrays |= {f"{split}/factors/{factor}": _plain(values) for factor, values in factors.items()}
    refuse_replaced(info, weights, measured)
    about = {
        "format": FORMAT,
        "run": run.name,
        "checkpoint": checkpoint,
        "checkpoint_hash": measured,
        "after": far,
        **_data(info),
        "encoder": header,
    }
    _write(out, arrays, json.dumps(about, sort_keys=True))
    shapes = (f"{split} {list(arrays[f'{split}/embeddings'].shape)}" for split in info.splits)
    console.print(f"wrote {out} of {run.name}, {far}: {', '.join(shapes)}")
    return out


def _exported(path: Path) -> bool:
    """Whether a file is one of ours, which can be exported again: no dataset is ever replaced."""
    if not path.is_file():
        return False
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                header = str(file["header"])
        else:
            with h5py.File(path, locking=False) as file:
                header = file.attrs["header"]
        return bool(json.loads(header)["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile):
        return False


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Without what h5py notes on text, which npz cannot hold."""
    return values.view(np.dtype(values.dtype.str))


def _data(info: DatasetInfo) -> dict[str, Any]:
    splits = {name: split.n for name, split in info.splits.items()}
    return {"data": str(info.path), "data_hash": info.content_hash, "classes": list(info.classes), "splits": splits}


def _write(out: Path, arrays: dict[str, NDArray[Any]], header: str) -> None:
    """The file, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(out) as temporary:
        if out.suffix == ".npz":
            with temporary.open("wb") as file:
                np.savez(file, header=np.array(header), **arrays)  # type: ignore[arg-type]
            return
        with closing(Target(temporary)) as target:
            with h5py.File(target, "w") as table:
                table.attrs["header"] = header
                for name, values in arrays.items():
                    table.create_dataset(name, data=values, track_times=False)
            target.check()
