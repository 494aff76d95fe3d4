"""An interrupted import goes on where it stopped, and ends with the bytes of one that never was.

Alone: pytest tests/data/importers/test_resume.py
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from probekit.data.importers import Import, Options, Skipped, Told
from probekit.data.importers.images import File
from probekit.data.importers.journal import Journal, is_unfinished, journal_of, partial_of
from probekit.h5 import DatasetInfo, read_info

SPLITS = (("train", 33), ("test", 9))
FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 images, so that few make many."""
    monkeypatch.setattr("probekit.h5.schema.CHUNK_IMAGES", 4)
    monkeypatch.setattr("probekit.data.importers.stream.FILES", 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders under train and test; two images are broken, the first has no colour."""
    root = tmp_path_factory.mktemp("photos") / "set"
    rng = np.random.default_rng(0)
    for split, n in SPLITS:
        for index in range(n):
            path = root / split / "ab"[index % 2] / f"{index:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if (split, index) in {("train", 10), ("test", 3)}:
                path.write_bytes(b"broken")
                continue
            pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
            Image.fromarray(pixels if (split, index) != ("train", 0) else pixels.max(axis=2)).save(path)
    return root


@dataclass
class Interrupted:
    """Stops after so many images; counts the images that were decoded."""

    after: int | None
    lines: list[str] = field(default_factory=list)

    def __call__(self, done: int, total: int) -> None:
        if self.after is not None and done >= self.after:
            raise KeyboardInterrupt


def take(
    photos: Path, out: Path, *, after: int | None = None, encoded: bool = False, progress: Any = None, **changes: Any
) -> tuple[DatasetInfo, list[Skipped], list[str]]:
    stop = Interrupted(after)
    how: dict[str, Any] = {"skip_broken": True, "overwrite": True, "compression": "gzip"}
    how |= {name: changes.pop(name) for name in list(changes) if name in how}
    options = Options(**({"size": 8, "max_gb": 0.0 if encoded else None} | changes))
    told = Told(progress or stop, stop.lines.append)
    info, skipped = Import(options, out=out, told=told, **how).of(photos)
    return info, skipped, [line for line in stop.lines if not line.startswith("no near-duplicates")]


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("after", [4, 13, 33, 36, 42])
def test_the_same_bytes_as_uninterrupted(tmp_path: Path, photos: Path, encoded: bool, after: int) -> None:
    whole, skipped, lines = take(photos, tmp_path / "whole.h5", encoded=encoded)
    assert [item.path for item in skipped] == ["train/a/010.png", "test/b/003.png"]
    assert lines == []
    out = tmp_path / "a.h5"
    for stop in (after, after, after + 4):  # again and again
        with pytest.raises(KeyboardInterrupt):
            take(photos, out, encoded=encoded, after=min(stop, 42))
        assert is_unfinished(out) or after == 4
        assert not out.exists()
    info, again, lines = take(photos, out, encoded=encoded)
    assert out.read_bytes() == whole.path.read_bytes()
    assert info.content_hash == whole.content_hash
    assert again == skipped
    assert lines
    assert all("going on after" in line for line in lines)
    assert sorted(tmp_path.iterdir()) == [out, whole.path]


def test_what_was_done_is_not_decoded_again(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        take(photos, tmp_path / "a.h5", after=34)
    decoded, decode = [], File.decode

    def counted(item: File) -> Any:
        decoded.append(item.key)
        return decode(item)

    monkeypatch.setattr(File, "decode", counted)
    take(photos, tmp_path / "a.h5")
    assert decoded[:2] == ["train/a/000.png", "train/a/002.png"]  # is there still an image with colour?
    assert len(decoded) == 2 + 9  # of 42: the rest had been done, or the last block of train was
    assert all(key.startswith("test") for key in decoded[2:])


def test_few_large_images_are_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for index in range(60):
        Image.fromarray(np.full((8, 8), 190 + index, np.uint8)).save(root / f"{index:02}.png")
    ahead, decoded, decode = [], [], File.decode

    def counted(item: File) -> Any:
        decoded.append(item.key)
        return decode(item)

    monkeypatch.setattr(File, "decode", counted)
    monkeypatch.setattr("probekit.data.importers.stream.os.cpu_count", lambda: 1)
    monkeypatch.setattr("probekit.data.importers.stream.AHEAD_BYTES", 4 * 8 * 8)  # four images
    take(root, tmp_path / "a.h5", progress=lambda done, total: ahead.append(len(decoded) - done))
    assert len(decoded) == 1 + 60  # the first is looked at
    assert max(ahead) <= 3 * 4 + 4 + 2  # blocks that are being packed, the images and a task


@FUZZ
@given(share=st.floats(0, 1), flip=st.booleans(), encoded=st.booleans(), of_journal=st.booleans())
def test_damage_anywhere_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, photos: Path, share: float, flip: bool, encoded: bool, of_journal: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = take(photos, folder / "whole.h5", encoded=encoded)[0]
    out = folder / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=38, encoded=encoded)
    path = journal_of(out) if of_journal else partial_of(out)
    content = bytearray(path.read_bytes())
    place = int(share * (len(content) - 1))
    if flip:
        content[place] ^= 0x41
    else:
        del content[place:]
    path.write_bytes(content)
    take(photos, out, encoded=encoded)
    assert out.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("encoded", [False, True])
def test_an_interruption_while_going_on_loses_nothing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, encoded: bool
) -> None:
    """The finished blocks are being copied to the new file: of two unfinished files the old one has more."""
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=38, encoded=encoded)
    add = Journal.add
    added: list[None] = []

    def interrupted(*arguments: Any) -> None:
        if len(added) == 3:
            raise KeyboardInterrupt
        add(*arguments)
        added.append(None)

    for _ in range(3):
        added.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "add", interrupted)
            with pytest.raises(KeyboardInterrupt):
                take(photos, out, encoded=encoded)
    _, _, lines = take(photos, out, encoded=encoded)
    assert lines[0] == "going on after 33 of 33 train images of an unfinished import"
    assert out.read_bytes() == take(photos, tmp_path / "b.h5", encoded=encoded)[0].path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_two_imports_of_one_file_do_not_meet(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"

    def meet(done: int, total: int) -> None:
        with pytest.raises(OSError, match="another process"):
            take(photos, out)

    whole = take(photos, out, progress=meet)[0]
    assert whole.path.read_bytes() == take(photos, tmp_path / "b.h5")[0].path.read_bytes()


def test_an_unfinished_import_waits_while_the_file_exists(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=38)
    out.write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        take(photos, out, overwrite=False, size=10)
    with pytest.raises(ValueError, match="compression"):
        take(photos, out, compression="zip")
    assert out.read_bytes() == b"somebody's"
    assert "going on after 33" in take(photos, out)[2][0]


def grow(path: Path) -> None:
    Image.fromarray(np.full((12, 14, 3), 77, np.uint8)).save(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "another image": lambda root: grow(root / "train" / "a" / "004.png"),
    "an image more": lambda root: grow(root / "train" / "a" / "003b.png"),
    "an image less": lambda root: (root / "train" / "b" / "007.png").unlink(),
    "a repaired image": lambda root: grow(root / "train" / "a" / "010.png"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_images_that_changed_are_read_again(tmp_path: Path, photos: Path, kind: str) -> None:
    import shutil

    root = tmp_path / "set"
    shutil.copytree(photos, root)
    with pytest.raises(KeyboardInterrupt):
        take(root, tmp_path / "a.h5", after=38)
    CHANGES[kind](root)
    take(root, tmp_path / "a.h5")
    whole = take(root, tmp_path / "whole.h5")[0]
    assert (tmp_path / "a.h5").read_bytes() == whole.path.read_bytes()


def test_grey_without_the_one_image_with_colour(tmp_path: Path) -> None:
    """It was removed after the interruption: what is left is grey, as if it had never been there."""
    root, out = tmp_path / "set", tmp_path / "a.h5"
    root.mkdir()
    for index in range(20):
        pixels = np.full((8, 8, 3), 190 + index, np.uint8)
        pixels[..., 0] += index == 15
        Image.fromarray(pixels).save(root / f"{index:02}.png")
    with pytest.raises(KeyboardInterrupt):
        take(root, out, after=18)
    assert take(root, tmp_path / "b.h5")[0].splits["train"].channels == 3
    (root / "15.png").unlink()
    assert take(root, out)[0].splits["train"].channels == 1


def test_other_settings_begin_anew_and_say_so(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=30)
    _, _, lines = take(photos, out, size=10)
    assert lines == ["an unfinished import with other settings was dropped: this one begins anew"]
    assert out.read_bytes() == take(photos, tmp_path / "b.h5", size=10)[0].path.read_bytes()


def test_broken_images_keep_what_was_done(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=20)
    for _ in range(2):
        with pytest.raises(ValueError, match="2 broken images"):
            take(photos, out, skip_broken=False)
    _, _, lines = take(photos, out)
    assert lines == [f"going on after {n} of {n} {split} images of an unfinished import" for split, n in SPLITS]
    assert out.read_bytes() == take(photos, tmp_path / "b.h5")[0].path.read_bytes()


def test_other_mistakes_leave_nothing(tmp_path: Path, photos: Path) -> None:
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "small.png")
    root = tmp_path / "set"
    root.mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8) if index < 11 else (9, 9), 200, np.uint8)).save(root / f"{index:02}.png")
    with pytest.raises(ValueError, match="one size"):
        take(root, tmp_path / "a.h5", size=None, max_gb=None)
    assert not list(tmp_path.glob(".*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.data.importers.test_resume import take
import probekit.h5.schema, probekit.data.importers.stream
probekit.h5.schema.CHUNK_IMAGES = probekit.data.importers.stream.FILES = 4
print("ready", flush=True)
import tests.data.importers.test_resume as module
module.Interrupted.__call__ = lambda self, done, total: done >= 24 and os.kill(os.getpid(), int(sys.argv[3]))
take(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has SIGKILL")
def test_a_killed_process_goes_on(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"
    command = [sys.executable, "-c", KILLED, str(photos), str(out), str(int(signal.SIGKILL))]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert journal_of(out).exists()
    _, _, lines = take(photos, out)
    assert "going on after" in lines[0]
    assert out.read_bytes() == take(photos, tmp_path / "b.h5")[0].path.read_bytes()
    assert read_info(out).splits["train"].n == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]
