"""Files of weights: what stands beside tensors does no harm, nothing of a file is run, and what is none is named.

Alone: pytest tests/models/test_checkpoint.py
"""

import argparse
import collections
import contextlib
import datetime
import io
import json
import os
import pickle
import struct
import time
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from probekit.models.checkpoint import MAGIC, Placeholder, read_checkpoint

TENSORS = {"conv1.weight": torch.arange(24.0).view(2, 3, 2, 2), "bn1.bias": torch.tensor([1.0, -2.0])}


def held(path: Path, where: str) -> dict[str, Tensor]:
    return read_checkpoint(path).tables[where]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())


class Anything:
    """A class of a project that is not installed here."""

    def __init__(self) -> None:
        self.inside = {"a": 1}


class OwnDict(dict[str, Any]):
    """A dictionary of another project (EasyDict, ConfigDict, ...)."""


def beside() -> dict[str, Any]:
    omegaconf = pytest.importorskip("omegaconf")
    return {
        "numpy scalar": np.float64(0.5),
        "numpy array": np.arange(3),
        "numpy strings": np.array(["a", "b"]),
        "path": Path("weights"),
        "date": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        "namespace": argparse.Namespace(lr=1.0, path=Path("a")),
        "another namespace": types.SimpleNamespace(a=1),
        "ordered": collections.OrderedDict(a=1),
        "counter": collections.Counter("abc"),
        "default": collections.defaultdict(list, {"losses": [np.float32(1.0)]}),
        "omegaconf": omegaconf.OmegaConf.create({"a": {"b": [1, 2]}}),
        "object": Anything(),
        "function": len,
        "set": {Path("a"), Path("b")},
        "key": {Path("a"): 1},
        "complex": 1j,
        "bytes": b"abc",
        "device": torch.device("cpu"),
        "type": torch.float16,
        "size": torch.Size([1, 2]),
        "generator": torch.get_rng_state(),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_harmless_content_beside_tensors_is_no_matter(zipped: bool, protocol: int, tmp_path: Path) -> None:
    """Each in a file of its own, before and after the tensors; in both of torch's formats."""
    for name, value in beside().items():
        for tree in ({"state_dict": TENSORS, "x": value}, {"x": [value], "state_dict": TENSORS}):
            path = tmp_path / "weights.pt"
            torch.save(tree, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
            assert same(held(path, "state_dict"), TENSORS), name


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [dict, OwnDict, collections.OrderedDict, lambda t: collections.defaultdict(None, t)])
def test_tensors_in_dictionaries_of_all_kinds(kind: Callable[[Any], Any], zipped: bool, tmp_path: Path) -> None:
    inner = kind(TENSORS)
    torch.save(kind({"state_dict": inner}), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert same(held(tmp_path / "a.pt", "state_dict"), TENSORS)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_all_kinds_are_what_torch_reads(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0)
    tensors = {
        "view": base.view(4, 6)[1:, ::2],
        "transposed": base.view(4, 6).t(),
        "parameter": nn.Parameter(base.clone()),
        "buffer": nn.Buffer(base.clone()),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.0),
        "half": base.half(),
        "bfloat": base.bfloat16(),
        **({"unsigned": torch.tensor([1, 2], dtype=torch.uint16)} if zipped else {}),  # torch reads no old files of it
        "bool": base > 3,
        "complex": torch.complex(base, base),
        "twice": base,
        "gradient": base.clone().requires_grad_(),
    }
    module = nn.BatchNorm2d(3)  # its state dict has attributes of its own
    torch.save(
        {"all": tensors, "module": module.state_dict()}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
    )
    expected = torch.load(tmp_path / "a.pt", weights_only=True)
    assert same(held(tmp_path / "a.pt", "all"), expected["all"])
    assert same(held(tmp_path / "a.pt", "module"), dict(expected["module"]))


# --- Nothing is run.


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def opcodes(module: str, name: str, argument: str) -> dict[str, bytes]:
    """The ways in which a pickle calls what it names, written by hand; each leaves one object on the stack."""
    at, text = f"{module}\n{name}\n".encode(), argument.encode()
    string = b"X" + struct.pack("<I", len(text)) + text
    pushed = b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93"
    return {
        "REDUCE": b"c" + at + string + b"\x85R",
        "STACK_GLOBAL, REDUCE": pushed + string + b"\x85R",
        "INST": b"(" + string + b"i" + at,
        "OBJ": b"(c" + at + string + b"o",
        "NEWOBJ": b"c" + at + string + b"\x85\x81",
        "NEWOBJ_EX": b"c" + at + string + b"\x85}\x92",
        "BUILD of what it names": b"c" + at + b"}" + string + string + b"sb",
        "BUILD of slots": b"c" + at + b"N}" + string + string + b"s\x86b",
        "a call of a result": b"c" + at + string + b"\x85R" + string + b"\x85R",
        "items": b"c" + at + string + b"\x85R(" + string + string + b"u",
        "appended": b"c" + at + string + b"\x85R(" + string + b"e",
    }


def with_pickle(pickled: bytes, path: Path, *, zipped: bool) -> None:
    """A file of torch.save whose dictionary has this besides: `{"x": ..., "state_dict": TENSORS}`."""
    torch.save({"x": 0, "state_dict": TENSORS}, path, _use_new_zipfile_serialization=zipped)
    number = b"X\x01\x00\x00\x00xq\x01K\x00"
    put = number[:-2] + pickled
    if not zipped:
        content = path.read_bytes()
        assert content.count(number) == 1
        path.write_bytes(content.replace(number, put))
        return
    with zipfile.ZipFile(path) as archive:
        parts = [(item, archive.read(item)) for item in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for item, content in parts:
            assert not item.filename.endswith("data.pkl") or content.count(number) == 1
            archive.writestr(item.filename, content.replace(number, put))


TARGETS = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("subprocess", "getoutput"),
]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("target", TARGETS, ids=".".join)
def test_nothing_of_a_file_is_run(target: tuple[str, str], zipped: bool, tmp_path: Path) -> None:
    """Every way to call something, of every kind: the tensors are read, and no trace is left."""
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w')" if target[0] == "builtins" else f"touch {trace}"
    for way, pickled in opcodes(*target, code).items():
        with_pickle(pickled, tmp_path / "a.pt", zipped=zipped)
        assert same(held(tmp_path / "a.pt", "state_dict"), TENSORS), way
        assert not trace.exists(), way


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Python's own unpickler runs them."""
    for way in ("REDUCE", "STACK_GLOBAL, REDUCE", "INST", "OBJ"):
        trace = tmp_path / way.replace(",", "")
        pickle.loads(b"\x80\x04" + opcodes("os", "system", f"touch '{trace}'")[way] + b".")
        assert trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_pickle_itself_writes_is_not_run(zipped: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    stream = io.BytesIO()
    torch.save(Payload(os.system, f"touch {trace}"), stream)
    payloads = [
        Payload(os.system, f"touch {trace}"),
        Payload(eval, f"open({str(trace)!r}, 'w')"),
        Payload(open, str(trace), "w"),
        Payload(getattr, os, "system"),
        Payload(torch.load, stream.getvalue()),
        Payload(torch.storage._load_from_bytes, stream.getvalue()),
        Payload(torch.hub.load, "a/b", "c"),
        Payload(__import__, "os"),
    ]
    for payload in payloads:
        if payload.arguments[0] is os:
            payload = Payload(getattr, Payload(__import__, "os"), "system")
        torch.save({"x": payload, "state_dict": TENSORS}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        assert same(held(tmp_path / "a.pt", "state_dict"), TENSORS)
        assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    ["torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch Size", "torch Tensor", "torch half"],
)
@pytest.mark.parametrize("way", ["BUILD of what it names", "BUILD of slots"])
def test_a_file_cannot_change_how_the_next_is_read(name: str, way: str, tmp_path: Path) -> None:
    """It sets attributes of what it names: read or refused, they are what they were."""
    module, function = name.split()
    with_pickle(opcodes(module, function, "__doc__")[way], tmp_path / "a.pt", zipped=True)
    documented = torch._utils._rebuild_tensor_v2.__doc__, torch.Tensor.__doc__, Placeholder.__doc__
    with contextlib.suppress(ValueError):
        read_checkpoint(tmp_path / "a.pt")
    assert (torch._utils._rebuild_tensor_v2.__doc__, torch.Tensor.__doc__, Placeholder.__doc__) == documented
    torch.save(TENSORS, tmp_path / "b.pt")
    assert same(held(tmp_path / "b.pt", ""), TENSORS)


def test_a_tensor_larger_than_its_numbers_is_refused(tmp_path: Path) -> None:
    """torch would make it of whatever stands behind them in memory."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pt").read_bytes()
    assert content.count(b"K\x03\x85") == 1
    (tmp_path / "a.pt").write_bytes(content.replace(b"K\x03\x85", b"K\xc8\x85"))
    with pytest.raises(ValueError, match="expected 200 numbers for a tensor, found fewer"):
        read_checkpoint(tmp_path / "a.pt")


def test_cycles_and_depths_end(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"state_dict": TENSORS}
    tree["self"] = tree
    deep: dict[str, Any] = {}
    tree["deep"] = deep
    for _ in range(400):
        deep["next"] = {}
        deep = deep["next"]
    torch.save(tree, tmp_path / "a.pt")
    assert list(read_checkpoint(tmp_path / "a.pt").tables) == ["state_dict"]


def test_many_plain_values_do_not_take_long(tmp_path: Path) -> None:
    """A file may name the images that it was trained with: 300,000 took 10 s when each value moved all that waited."""
    torch.save({"args": {f"{number}.png": number for number in range(300_000)}, "state_dict": TENSORS}, tmp_path / "a")
    began = time.process_time()
    assert list(read_checkpoint(tmp_path / "a").tables) == ["state_dict"]
    assert time.process_time() - began < 5


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    """torch reads other numbers without a word; a file that it saved without checksums is read as before."""
    path = tmp_path / "a.pt"
    torch.save(TENSORS, path)
    content = bytearray(path.read_bytes())
    at = content.index(TENSORS["conv1.weight"].numpy().tobytes()) + 40
    content[at] ^= 1
    path.write_bytes(content)
    assert not same(torch.load(path, weights_only=True), TENSORS)
    with pytest.raises(ValueError, match=r"found a damaged archive: the checksum of a/data/0 does not fit"):
        read_checkpoint(path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(held(path, ""), TENSORS)


def test_the_tensors_of_torchscript_are_read_and_its_code_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI publishes CLIP in this form."""
    path, inner = tmp_path / "scripted.pt", nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).half().eval()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(nn.Sequential(inner), torch.zeros(1, 2).half()), path)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(torch.jit, "load", None)
    assert same(held(path, ""), nn.Sequential(inner).state_dict())


def test_the_arrays_of_an_npz_file_are_read(tmp_path: Path) -> None:
    arrays = {"a/kernel": np.arange(6.0).reshape(2, 3), "b": np.ones(2, dtype=">f4"), "step": np.array(3)}
    np.savez(tmp_path / "w.npz", **arrays)  # type: ignore[arg-type]
    assert same(
        held(tmp_path / "w.npz", ""),
        {
            name: torch.tensor(arrays[name].tolist()).to(kind)
            for name, kind in (("a/kernel", torch.float64), ("b", torch.float32))
        },
    )


# --- No checkpoint.


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(4_000_000))


def cut(path: Path) -> None:
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:600])


NO_CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: path.touch(), "an empty file"),
    "web page": (
        lambda path: path.write_text("\n <!DOCTYPE html><html>404</html>"),
        "a web page: the download answered",
    ),
    "Git LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"),
        "a pointer of Git LFS, not the file itself, which `git lfs pull` fetches",
    ),
    "index": (
        lambda path: path.write_text(json.dumps({"weight_map": {"a": "b.safetensors"}})),
        "JSON text; an index of",
    ),
    "JSON": (lambda path: path.write_text('{"meta":{"a":1}}'), "JSON text; an index"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file"),
    "npz of objects": (
        lambda path: np.savez(path.open("wb"), a=np.array([{"a": 1}], dtype=object)),
        "Object arrays cannot be loaded",
    ),
    "npz of labels": (lambda path: np.savez(path.open("wb"), a=np.arange(3)), "expected tensors by their names"),
    "npy": (lambda path: np.save(path.open("wb"), np.ones(3)), "an array of NumPy"),
    "zip": (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"), "a zip archive of something else"),
    "bomb": (bomb, "an archive of 4,000,00. bytes packed into 4,"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(20)), "a gzip archive"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(TENSORS)), "a pickle that is none of torch.save"),
    "cut": (cut, "an archive that is cut short"),
    "old and cut": (lambda path: path.write_bytes(b"\x80\x02" + MAGIC + b"\x80"), "a file torch cannot read: "),
    "text": (lambda path: path.write_text("hello"), "found text"),
    "noise": (lambda path: path.write_bytes(bytes(range(200, 250))), r"another file, which begins b'\\xc8"),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), "expected tensors by their names in .*, found none$"),
    "a list": (lambda path: torch.save([torch.ones(3)], path), "expected tensors by their names in .*, found none$"),
    "sparse": (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "found none"),
    "no values": (lambda path: torch.save({"a": torch.empty(2, device="meta")}, path), "found none"),
    "a module": (
        lambda path: torch.save(nn.Linear(2, 2), path),
        r"found none beside objects of other code \(.*torch.nn.modules.linear.Linear.*\); where you trust it, save",
    ),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("what", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(what: str, suffix: str, tmp_path: Path) -> None:
    """By its first bytes, whatever its name is."""
    write, says = NO_CHECKPOINTS[what]
    path = tmp_path / f"file{suffix}"
    write(path)
    with pytest.raises(ValueError, match=says) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_files_do_not_matter(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.safetensors")
    save_file(TENSORS, tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        assert same(held(tmp_path / name, ""), TENSORS)
    (tmp_path / "c.bin").write_bytes(save(TENSORS)[:-4])
    with pytest.raises(ValueError, match=r"expected a whole safetensors file .*c\.bin, found: .*"):
        read_checkpoint(tmp_path / "c.bin")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "encoder.safetensors").touch()
    for path, says in (
        (tmp_path, "expected a file of weights .*, found none$"),
        (tmp_path / "run", "found none but the folder of a run, whose weights are .*/run/encoder.safetensors$"),
        (tmp_path / "nothing.pt", "expected a file of weights .*nothing.pt, found none$"),
        (tmp_path / "nothing.pt:key", "expected a file of weights .*nothing.pt, found none$"),
    ):
        with pytest.raises(ValueError, match=says):
            read_checkpoint(path)


@pytest.mark.parametrize("header", ["[]", '{"spec": 3}', '{"spec": {}}'])
def test_headers_of_others_are_no_matter(tmp_path: Path, header: str) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"probekit": header})
    torch.save({**TENSORS, "encoder_header": json.loads(header)}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        assert read_checkpoint(tmp_path / name).spec is None
