"""A file of weights, of any project: its dictionaries of tensors, whatever else it holds, and nothing of it is run."""

import io
import pickle
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import StorageType

from probekit.files import sha256
from probekit.models.archives import read_npz, read_scripted
from probekit.models.tensor_files import read_tensors
from probekit.run import Run, how_far
from probekit.visible import first_line, some

# Parts of names that are wrappers': of DataParallel, torch.compile, FSDP, checkpointed activations.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
LARGEST = 2**40  # bytes of a header
PIECE = 2**20  # bytes that are read at once
PACKED = 10  # times its size an archive may hold; torch itself packs no more than a script's text
DEEPEST = 16  # dictionaries in dictionaries
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself, which `git lfs pull` fetches",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "a gzip archive",
    b"<": "a web page: the download answered with text",
    b"{": "JSON text; an index of several files names them, and they are to be joined in one",
}
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's number at the beginning of its files that are no zip archives
ZIP = b"PK\x03\x04"


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


def _of_archive(path: Path) -> str:
    """What kind of zip archive a file is: "npz", "TorchScript", or "" for one of torch.save."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(".npy") for name in names):
        return "npz"
    records: Any = torch._C.PyTorchFileReader(str(path))
    return "TorchScript" if records.has_record("constants.pkl") else ""  # which torch.load would run


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    `tables`: every dictionary of tensors in it, by where it stands: "", "state_dict", "teacher", . `spec`: that of the
    encoder, if it is a file of probekit. `key`: which of several networks in it is meant, a part of the names:
    "student"; None for the best. `after`: how far the run was whose file it is, in words; "" where it lies in the
    folder of none. `sha256_of_parts`: hash of all files, where `path` is a folder of several.
    """

    path: Path
    tables: dict[str, dict[str, Tensor]]
    spec: dict[str, Any] | None
    key: str | None = None
    after: str = ""
    sha256_of_parts: str = ""

    @property
    def sha256(self) -> str:
        """The hash of what it was read from, hex."""
        return self.sha256_of_parts or sha256(self.path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a file of safetensors, of `torch.save`, of TorchScript or of NumPy (npz), told by their contents.

    `path`: the file, or FILE:KEY where it holds several networks. A ValueError if the file is neither, is cut short, or
    holds no tensors.
    """
    key = None
    if not path.is_file() and ":" in str(path):
        file, _, key = str(path).rpartition(":")
        path = Path(file)
    if not path.is_file():
        inside = path / "encoder.safetensors"  # of a run folder
        hint = f" but the folder of a run, whose weights are {inside}" if inside.is_file() else ""
        raise ValueError(f"expected a file of weights {path}, found none{hint}")
    with path.open("rb") as file_:
        head = file_.read(512)
    unknown: list[str] = []
    # The length of a header, which eight letters are too large for, and then its JSON.
    safetensors = head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LARGEST
    tree, header = _read_safetensors(path) if safetensors else _read_torch(path, head, unknown)
    tables = {where: unwrapped(table) for where, table in _tables(tree)}
    if not tables:
        objects = f" beside objects of other code ({some(sorted(set(unknown)))})" if unknown else ""
        hint = "; where you trust it, save them alone: torch.save(model.state_dict(), FILE)" if unknown else ""
        raise ValueError(f"expected tensors by their names in {path}, found none{objects}{hint}")
    return Checkpoint(path, tables, None if header is None else header["spec"], key, _after(path, header))


def _after(path: Path, header: Mapping[str, Any] | None) -> str:
    """How far the run was in whose folder a file with our header lies."""
    run = next((run for run in map(Run, path.parents[:2]) if run.json.exists()), None)
    epoch = None if header is None else header.get("epoch")
    if run is None or not isinstance(epoch, int):
        return ""
    with suppress(ValueError):  # of a folder that is damaged elsewhere
        return how_far(run.read(), epoch)
    return ""


def unwrapped(table: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, their names without the parts that are wrappers'; unchanged if two would have one name."""
    short = {without_wrappers(name): value for name, value in table.items()}
    return short if len(short) == len(table) else dict(table)


def without_wrappers(name: str) -> str:
    """`"module.encoder_q.conv1" -> "encoder_q.conv1"`."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    try:
        with safe_open(path, framework="pt") as file:
            ours = '"crc32"' in (file.metadata() or {}).get("probekit", "")
            tensors = {} if ours else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a whole safetensors file {path}, found: {first_line(error)}") from error
    if not ours:
        return tensors, None
    header, tensors = read_tensors(path)  # with its checksum
    return tensors, _ours(header)


def _read_torch(path: Path, head: bytes, unknown: list[str]) -> tuple[Any, Mapping[str, Any] | None]:
    if kind := _no_checkpoint(path, head):
        raise ValueError(f"expected a checkpoint of torch.save or safetensors in {path}, found {kind}")
    kind = _of_archive(path) if head.startswith(ZIP) else ""
    try:
        if kind:
            return read_npz(path) if kind == "npz" else read_scripted(path, reader(unknown).Unpickler), None
        # From memory, since torch unpacks what it takes for an archive of its oldest kind, if it is a file.
        source = path.open("rb") if head.startswith(ZIP) else io.BytesIO(path.read_bytes())
        with source, warnings.catch_warnings(action="ignore"):
            tree = torch.load(source, map_location="cpu", weights_only=False, pickle_module=reader(unknown))
    except Exception as error:  # whatever the bytes make of torch's reader
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ValueError(f"expected a whole checkpoint in {path}, found a file torch cannot read: {reason}") from error
    if not isinstance(tree, Mapping):
        return tree, None
    header = _ours(tree.get("encoder_header"))
    if header is None or not isinstance(tree.get("method"), Mapping):
        return tree, header
    kept = f"{header.get('kept', 'encoder')}."
    return {"method": {k: v for k, v in tree["method"].items() if str(k).startswith(kept)}}, header


def _no_checkpoint(path: Path, head: bytes) -> str:
    """What a file is that torch.save did not write; "" if it did, as far as its first bytes tell."""
    if not head:
        return "an empty file"
    if head.startswith(b"\x80"):
        return "" if MAGIC in head[:32] else "a pickle that is none of torch.save"
    if head.startswith(ZIP):
        return _no_archive(path)
    text = head.lstrip()
    named = (kind for beginning, kind in BEGINNINGS.items() if head.startswith(beginning) or text.startswith(beginning))
    return next(named, "text" if text.isascii() and b"\0" not in text else f"another file, which begins {head[:8]!r}")


def _no_archive(path: Path) -> str:
    """What a zip archive is that torch.save did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked, size = sum(record.file_size for record in archive.infolist()), path.stat().st_size
            if unpacked > PACKED * size:  # a bomb of a few bytes would be unpacked for hours
                return f"an archive of {unpacked:,} bytes packed into {size:,}"
            names, damaged = archive.namelist(), _damaged(archive)
    except Exception as error:  # whatever the bytes make of the reader
        return f"an archive that is cut short or damaged: {first_line(error)}"
    if any(name.endswith(".npy") for name in names):
        return ""
    if not any(name.endswith("data.pkl") for name in names):
        return "a zip archive of something else"
    if 0 < len(damaged) < len(names):  # of all in a file that was saved without checksums
        return f"a damaged archive: the checksum of {some(damaged)} does not fit"
    try:
        torch._C.PyTorchFileReader(str(path))
    except Exception as error:
        return f"a damaged archive: {first_line(error)}"
    return ""


def _damaged(archive: zipfile.ZipFile) -> list[str]:
    """Which files in an archive are not what was written: torch itself reads them as other numbers."""
    found = []
    for name in archive.namelist():
        try:
            with archive.open(name) as file:
                while file.read(PIECE):
                    pass
        except zipfile.BadZipFile:
            found.append(name)
    return found


def _ours(header: Any) -> Mapping[str, Any] | None:
    """A header, if it is one of probekit with the spec of its encoder."""
    spec = header.get("spec") if isinstance(header, Mapping) else None
    return header if isinstance(spec, dict) and "channels" in spec else None


def _tables(tree: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary with tensors under string keys, by the path to it; each once, and none too deep."""
    waiting, seen = deque([("", tree, 0)]), set()
    while waiting:
        where, node, depth = waiting.popleft()
        node = node.content if isinstance(node, Placeholder) else node
        if not isinstance(node, Mapping) or id(node) in seen or depth > DEEPEST:
            continue
        seen.add(id(node))
        named = {key: value for key, value in node.items() if isinstance(key, str)}
        tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
        tensors = {key: x for key, x in tensors.items() if x.layout == torch.strided and not x.is_meta}  # with values
        if tensors:
            yield where, tensors
        inner = {key: value for key, value in named.items() if isinstance(value, Mapping | Placeholder)}
        waiting += [(f"{where}.{key}" if where else key, value, depth + 1) for key, value in inner.items()]
