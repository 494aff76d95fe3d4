"""Tensors in archives that torch.load does not read: npz of flax, and TorchScript, of which nothing is run."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import StorageType

DEEPEST = 16  # modules in modules


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of floating-point numbers of an npz file, by their names; pickled ones are refused.

    A ValueError if an array is pickled, or the file is damaged.
    """
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
        for name, array in found.items()
        if array.dtype.kind == "f" and array.dtype.itemsize <= 8
    }


def read_scripted(path: Path, unpickler: type[pickle.Unpickler]) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive, by the names of the modules that hold them.

    The archive's pickle is read by an `unpickler` that runs nothing; the code in the archive is not looked at.
    """
    records: Any = torch._C.PyTorchFileReader(str(path))
    storages: dict[str, Any] = {}

    class Reader(unpickler):  # type: ignore[misc, valid-type]
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith("__torch__"):
                return Module
            if module == "torch" and name.endswith("Storage"):
                return StorageType(name)  # type: ignore[no-untyped-call]
            return super().find_class(module, name)

        def persistent_load(self, pid: Any) -> Any:
            _, kind, key, _, _ = pid  # and a length, which need not be true
            if key not in storages:
                data = torch.from_numpy(np.frombuffer(bytearray(records.get_record(f"data/{key}")), np.uint8))
                storages[key] = torch.storage.TypedStorage(  # type: ignore[no-untyped-call]
                    wrap_storage=data.untyped_storage(), dtype=kind.dtype, _internal=True
                )
            return storages[key]

    return _flat(Reader(io.BytesIO(records.get_record("data.pkl"))).load())


class Module:
    """A module of a TorchScript archive: its attributes, nothing else."""

    def __init__(self, *_: Any) -> None:
        self.content: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.content = dict(state) if isinstance(state, Mapping) else {}


def _flat(module: Any, at: str = "", depth: int = 0) -> dict[str, Tensor]:
    content = module.content if isinstance(module, Module) and depth <= DEEPEST else {}
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            found[f"{at}{name}"] = value
        elif isinstance(value, Module):
            found |= _flat(value, f"{at}{name}.", depth + 1)
    return found
