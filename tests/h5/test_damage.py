"""Damaged dataset files: every flipped bit is refused in one line or harmless; locks; what was changed is never taken.

Alone: pytest tests/h5/test_damage.py
"""

import fcntl
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from probekit.cli import app
from probekit.h5 import open_encoded, read_info, read_split, verify
from tests.datasets import noise_npz, small_shapes
from tests.forked import SERVER

FLIPS = 25  # of each kind of file: 100 in all
WRITER = """
import sys, h5py

with h5py.File(sys.argv[1], "r+", locking=True) as file:
    print("open", flush=True)
    sys.stdin.readline()
    file["test/images"][:] = 0
    file.flush()
    print("written", flush=True)
    sys.stdin.readline()
"""


def flipped(path: Path, kind: str) -> list[list[str | None]]:
    """In a child, as HDF5 itself must not crash either: what becomes of reading and of verifying, by flipped bit."""

    def contents() -> list[bytes]:
        info = read_info(path)
        held: list[Any] = [info]
        for split in info.splits:
            rows = read_split(path, split, masks=True)
            held += [rows.images, rows.labels, rows.masks, sorted(rows.factors.items())]
            if info.splits[split].encoded:
                with closing(open_encoded(path, split)) as encoded:
                    held.append(encoded.read(range(len(encoded))))
        return [pickle.dumps(part) for part in held]

    def refused(call: Callable[[], object], before: object) -> str | None:
        try:
            return None if call() == before else "read as something else"
        except ValueError as error:
            line = str(error)
            return "refused" if "\n" not in line and str(path) in line else line

    whole = path.read_bytes()
    calls = {call: call() for call in (contents, lambda: verify(path))}
    found = []
    for seed in range(FLIPS):
        rng = np.random.default_rng([len(kind), seed])
        data = bytearray(whole)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        found.append([refused(call, before) for call, before in calls.items()])
    return found


def typed(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.exception
    return done.output


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a file of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probekit.h5.encoded.CHUNK", 3000)  # little that holds no data
        small_shapes(folder / "plain.h5", n=20, n_test=8, size=16)
        typed("gen", "rect-tri", "--n", "70", "--n-test", "8", "--size", "16", "--out", str(folder / "packed.h5"))
        typed("import", str(noise_npz(folder / "noise.npz", channels=3)), "--out", str(folder / "imported.h5"))
        with np.load(folder / "noise.npz") as noise:
            for index, image in enumerate(noise["x_train"]):
                picture = folder / "pictures" / ("test" if index > 17 else "train") / "ab"[index % 2] / f"{index}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(picture), image)
        words = ("--size", "32", "--resize", "squash", "--max-gb", "0")
        typed("import", str(folder / "pictures"), "--out", str(folder / "jpeg.h5"), *words)
    return folder


@pytest.fixture
def made(kinds: Path, tmp_path: Path) -> Path:
    """A folder with a copy of each, to be damaged."""
    for path in kinds.glob("*.h5"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["plain", "packed", "imported", "jpeg"])
def test_a_flipped_bit_is_refused_or_harmless(made: Path, kind: str) -> None:
    path = made / f"{kind}.h5"
    assert read_info(path).splits["train"].encoded == (kind == "jpeg")
    with ProcessPoolExecutor(1, mp_context=SERVER) as child:
        found = child.submit(flipped, path, kind).result()
    assert len(found) == FLIPS
    assert all(read == checked and read in (None, "refused") for read, checked in found), found
    assert sum(read == "refused" for read, _ in found) > FLIPS // 10  # else the flips would show nothing


def test_every_part_is_covered(tmp_path: Path) -> None:
    """One value of each kind changed through h5py, which leaves a file that is sound in all else."""
    path = tmp_path / "a.h5"
    small_shapes(path, n=20, n_test=8, size=16)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        names = [name for name in ("images", "masks", "labels") if name in file["test"]]
        names += [f"factors/{name}" for name in file["test/factors"]]
        attributes = list(file.attrs)
    for name in names:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            data = file["test"][name]
            data[-1] = np.roll(data[-1], 1) if data.ndim > 1 else data[0] if data[0] != data[-1] else data[-1] * 0
            changed = data[:].tobytes()
        if changed == _values(whole, path, name):
            continue
        with pytest.raises(ValueError, match=r"expected checksum .* of rows 0 to 7 of /test/.*, found"):
            read_split(path, "test", masks=True)
        with pytest.raises(ValueError, match="damaged or changed"):
            verify(path)
    for name in attributes:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            value = file.attrs[name]
            file.attrs[name] = value + 1 if name == "seed" else value.replace("a", "b") + " "
        with pytest.raises(ValueError, match=name if name == "schema" else "damaged or changed|JSON|attribute"):
            read_info(path)


def _values(whole: bytes, path: Path, name: str) -> bytes:
    other = path.with_name("whole.h5")
    other.write_bytes(whole)
    with h5py.File(other) as file:
        values: bytes = file["test"][name][:].tobytes()
    return values


def test_streamed_files_are_checked_one_by_one(made: Path) -> None:
    path = made / "jpeg.h5"
    with h5py.File(path, "r+") as file:
        begin = int(file["train/encoded/offsets"][7])
        file["train/encoded/bytes"][begin + 300] ^= 1
    with closing(open_encoded(path, "train")) as encoded:
        encoded.read([6, 8])
        with pytest.raises(ValueError, match=r"expected checksum .* of image 7 in .*jpeg\.h5, found"):
            encoded.read([6, 7])
        with path.open("r+b") as writer:
            fcntl.flock(writer, fcntl.LOCK_EX)
            encoded.read([6, 8])
            with pytest.raises(ValueError, match=r"cannot read .*jpeg\.h5: another process has it open for writing"):
                encoded.read([6, 7])


def test_a_sound_file_is_read_while_another_writes_and_a_damaged_one_is_called_locked(tmp_path: Path) -> None:
    """h5py's own lock, of another process; it then takes what we only read."""
    path = tmp_path / "a.h5"
    small_shapes(path, n=20, n_test=8, size=16)
    whole = read_split(path, "test").images
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdin=PIPE, stdout=PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with path.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        verify(path)
        assert np.array_equal(read_split(path, "test").images, whole)
        print("", file=writer.stdin, flush=True)
        assert writer.stdout.readline() == "written\n"
        for read in (verify, partial(read_split, split="test")):
            with pytest.raises(ValueError, match=r"cannot read .*a\.h5: another process has it open for writing; wait"):
                read(path)
        read_split(path, "train")
    with pytest.raises(ValueError, match="not a readable dataset file"):
        verify(path)


def test_show_verifies(made: Path) -> None:
    path = made / "packed.h5"
    assert "verified: every checksum, and the hash" in typed("show", str(path), "--verify")
    with h5py.File(path, "r+") as file:
        file["test/images"][:] = 0
    done = CliRunner().invoke(app, ["show", str(path), "--verify"])
    assert isinstance(done.exception, ValueError)
    assert "/test/images" in str(done.exception)
