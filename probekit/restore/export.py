"""`probekit export-embeddings`: embeddings, labels and factors of every split in one npz or HDF5 file."""

import json
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from probekit.data.locate import run_or_newest
from probekit.data.split import check_channels
from probekit.device import choose_device
from probekit.files import replaced
from probekit.h5 import DatasetInfo, read_split
from probekit.h5.target import Target
from probekit.restore.opened import OpenedRun, open_encoder
from probekit.weights import Weights

FORMAT = "probekit-embeddings/1"
SUFFIXES = (".npz", ".h5")


def run_export(
    name: str | None,
    *,
    data: Path | None,
    out: Path | None,
    weights: Weights,
    device: str,
    runs: Path,
    overwrite: bool,
    console: Console,
) -> dict[str, Any]:
    """Writes what other tools need to work on a run's embeddings.

    Args:
        out: NAME.npz or NAME.h5; None is embeddings-CHECKPOINT.npz in the run folder.

    The file holds `SPLIT/embeddings` float32 `[N, D]`, `SPLIT/labels` and `SPLIT/factors/NAME` as the dataset file has
    them, and `header`, JSON text (in HDF5 an attribute): format, run, checkpoint, checkpoint_hash, after (how far the
    run was), data, data_hash, classes, splits, encoder (its own header).

    Returns:
        {"path", "embeddings": the shape of each split's}, and the header's run, checkpoint, after, data and data_hash.

    Raises:
        ValueError: If `out` exists, is no file of embeddings or has another suffix, or there is no such run, checkpoint
            or data.
    """
    run = run_or_newest(name, runs, console)
    if out is not None:
        _check_out(out, overwrite)
    opened = open_encoder(run, weights, choose_device(device))
    out = out or run.path / f"embeddings-{opened.weights}.npz"
    _check_out(out, overwrite)
    info, notes = opened.dataset(data)
    for line in notes:
        console.print(line)
    check_channels(info, opened.header["spec"]["channels"])
    with run.locked("probe"):  # which embeds, too
        shapes = _export(opened, info, out)
    told = ", ".join(f"{split} {shape}" for split, shape in shapes.items())
    console.print(f"wrote {out} of {run.name}, {opened.after}: {told}")
    return {
        "path": str(out),
        "embeddings": shapes,
        "run": run.name,
        "checkpoint": str(opened.weights),
        "after": opened.after,
        "data": str(info.path),
        "data_hash": info.content_hash,
    }


def _check_out(out: Path, overwrite: bool) -> None:
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


def _export(opened: OpenedRun, info: DatasetInfo, out: Path) -> dict[str, list[int]]:
    """Writes the file, and returns the shapes of the embeddings."""
    arrays: dict[str, NDArray[Any]] = {}
    for split in info.splits:
        arrays[f"{split}/embeddings"] = opened.embed(info, split)
        rows = read_split(info.path, split, images=False)
        labels, factors = rows.labels, rows.factors
        arrays |= {} if labels is None else {f"{split}/labels": labels}
        arrays |= {f"{split}/factors/{factor}": _plain(values) for factor, values in factors.items()}
    opened.refuse_replaced(info)
    about = {
        "format": FORMAT,
        "run": opened.run.name,
        "checkpoint": str(opened.weights),
        "checkpoint_hash": opened.hash,
        "after": opened.after,
        **_data(info),
        "encoder": opened.header,
    }
    _write(out, arrays, json.dumps(about, sort_keys=True))
    return {split: list(arrays[f"{split}/embeddings"].shape) for split in info.splits}


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
