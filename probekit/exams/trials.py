"""Trials: what an observer answered to every test image of an item, kept so that another look costs no forward pass."""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from probekit.files import replaced

Floats = NDArray[np.float32]
Output = tuple[str, str]

FORMAT = 2  # to be raised when the same settings give other answers


@dataclass(frozen=True)
class Trial:
    """The answers of one output to an item."""

    values: Floats  # `[S, L, 2n]`, S seeds of training pairs, L levels, rows 2i and 2i + 1 a pair
    half: Floats  # the same after half of the training pairs; of observers that learn nothing, `values`
    regimen: tuple[str, ...]  # what each seed's read-out was trained on, as of `Trained`; "" where nothing is learned


Trials = dict[Output, Trial]
Sets = dict[str, Trials]  # by the name of a set of test images


def kept(folder: Path, item: str, depends: Mapping[str, Any], make: Callable[[], Sets]) -> Sets:
    """The trials of an item, made only if the folder does not hold them yet; `depends`: all that they depend on."""
    text = json.dumps({**depends, "item": item, "format": FORMAT}, sort_keys=True)
    path = folder / f"{item}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    if (found := _read(path)) is not None:
        return found
    sets = make()
    folder.mkdir(parents=True, exist_ok=True)
    named = [(name, output, trial) for name, trials in sets.items() for output, trial in trials.items()]
    arrays: dict[str, Any] = {"names": np.array([(name, *output) for name, output, _ in named], dtype=str)}
    for number, (_, _, trial) in enumerate(named):
        arrays |= {f"values-{number}": trial.values, f"half-{number}": trial.half}
        arrays[f"regimen-{number}"] = np.array(trial.regimen, dtype=str)
    with replaced(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return sets


def _read(path: Path) -> Sets | None:
    """What `kept` wrote; None of a file that is missing, empty or damaged: each array has a checksum in the zip."""
    found: Sets = {}
    try:
        with np.load(path) as file:
            for number, (name, layer, pool) in enumerate(file["names"]):
                regimen = tuple(map(str, file[f"regimen-{number}"]))
                trial = Trial(file[f"values-{number}"], file[f"half-{number}"], regimen)
                found.setdefault(str(name), {})[str(layer), str(pool)] = trial
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error):
        return None
    return found or None
