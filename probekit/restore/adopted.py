"""Makes a run folder for an encoder that was not trained here."""

import shlex
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from probekit.data.gen import dataset_or_default
from probekit.data.split import CPU, to_device
from probekit.device import find_device
from probekit.h5 import DatasetInfo, read_split, verify
from probekit.models.encoder import save_encoder
from probekit.restore.outside import MAX_SIZE, Made, Outside, make_encoder
from probekit.restore.pooled import pooling
from probekit.run import IMPORTED, Run, create_run, free_name, git_commit, versions
from probekit.weights import Weights

TRIAL = 2  # images that are passed once, to see what comes out


def adopt(
    asked: Outside,
    check: Callable[..., object],
    *,
    run: str | None,
    data: Path | None,
    measured: Weights,
    device: str,
    runs: Path,
    data_folder: Path,
    console: Console,
) -> str:
    """Makes the run folder of an encoder from elsewhere, which then is probed, looked into and reported as any other.

    Returns the run's name; its state is "imported". A ValueError if the encoder cannot be made, the weights do not fit,
    or it cannot be probed as asked for. No folder has been made then.

    Args:
        check: Given a dataset file and `named`, the encoder as it was typed: refuses a file that lacks what is to be
            measured, before a folder is made.
        run: A run that was named beside it, which is refused.
        data: The dataset file that it is to be probed on; None is the newest.
        measured: What is to be probed, "last" under some pooling: there are no others.
        device: Where it is to be probed.
        runs: The folder of run folders; nothing in it is overwritten.
        data_folder: Where the newest dataset file is looked for.
    """
    if run is not None:
        raise ValueError(f"expected a run or --encoder, found both, {run} and {asked.encoder}; leave one out")
    if measured.checkpoint != "last":
        raise ValueError(f"expected --checkpoint of a run, found {measured.checkpoint} with --encoder; leave it out")
    find_device(device)
    info = verify(dataset_or_default(data, data_folder, runs, console))
    check(info, named=shlex.join(asked.words))
    images = to_device(read_split(info.path, info.first.name, stop=TRIAL).images, CPU, max_size=MAX_SIZE)
    made = make_encoder(asked, images.float() / 255)
    if measured.pool is not None:
        pooling(measured.pool, made.encoder)
    for line in made.lines:
        console.print(line)
    return _keep(asked, made, info, runs, console).name


def _keep(asked: Outside, made: Made, info: DatasetInfo, runs: Path, console: Console) -> Run:
    stem = asked.encoder.rpartition(":")[2].replace("/", "-")
    weights = "" if asked.weights is None else str(asked.weights)
    run = create_run(
        runs / free_name(f"{stem}-{info.path.stem}", runs),
        {
            "state": IMPORTED,
            "config": {
                "method": made.method,
                "seed": asked.seed,
                "model": {**made.encoder.spec, "weights": weights},
                "train": {"epochs": 0, "eval_every": 0},
            },
            "dataset": {"path": str(info.path), "hash": info.content_hash, "name": info.path.stem},
            "weights": None if made.match is None else made.match.as_dict(),
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "commit": git_commit(),
        },
        overwrite=False,
    )
    header = {
        "method": made.method,
        "epoch": 0,
        "image_size": [info.first.height, info.first.width],
        "max_size": MAX_SIZE,
        "dataset_hash": info.content_hash,
        "classes": list(info.classes),
    }
    save_encoder(run.encoder, made.encoder, header)
    console.print(f"made {run.path}, an imported run")
    return run
