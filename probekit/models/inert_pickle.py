"""Unpickles what `torch.save` wrote without calling anything that the file names.

A pickle names functions and classes, and what it is to be made with them. Here a name stands for a part of a tensor,
or else for a `Placeholder`, so that dates, paths, numpy's numbers or whole objects beside tensors do no harm.
"""

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.serialization import StorageType


class Placeholder:
    """Stands for any function, class or object: takes whatever is done to it, and keeps what a dictionary would."""

    dump_patches = False  # torch's reader of old files writes a file of a class that says otherwise
    content: dict[Any, Any]

    def __new__(cls, *_: Any, **__: Any) -> "Placeholder":
        """An empty one, whatever it is made of."""
        made = super().__new__(cls)
        made.content = {}
        return made

    def __call__(self, *_: Any, **__: Any) -> "Placeholder":
        """Another one."""
        return Placeholder()

    def __setitem__(self, key: Any, value: Any) -> None:
        self.content[key] = value

    def _ignore(*_: Any) -> None:  # also of the class itself, which a file may try to change
        pass

    __setstate__ = append = extend = add = _ignore


class Table(dict[Any, Any]):
    """An ordered or a default dictionary, without the attributes that it may have."""

    def __setstate__(self, _: Any) -> None:
        pass


class _Part:
    """A function of ours in place of one that the file names, and that the file cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: Any) -> None:
        pass


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor, without the hooks and attributes that may follow."""
    return _typed_tensor(storage, offset, size, stride, None, None, storage.dtype)


def _typed_tensor(
    storage: Any, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if 0 not in size else 0
    if last * dtype.itemsize > storage._untyped_storage.nbytes():  # torch would read what happens to stand behind
        raise ValueError(f"expected {last} numbers for a tensor, found fewer")
    return torch.empty(0, dtype=dtype).set_(storage._untyped_storage, offset, size, stride)


PARTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda function, _kind, arguments, _state: function(*arguments),
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): Table,
    ("collections", "defaultdict"): lambda *_: Table(),
}


def reader(unknown: list[str]) -> Any:
    """What `torch.load` takes as its `pickle_module`; `unknown` gets the names for which placeholders stand."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if part := PARTS.get((module, name)):
                return _Part(part)
            if (module, name) == ("torch.storage", "UntypedStorage"):
                return StorageType("ByteStorage")  # type: ignore[no-untyped-call]
            if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
                return dtype
            unknown.append(f"{module}.{name}")
            return Placeholder

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__="inert_pickle", Unpickler=Unpickler, load=load)
