"""Imports in shards: an interrupted one goes on where it stopped, and ends with the bytes of one that never was.

Alone: pytest tests/data/importers/test_resume.py
"""

import shutil
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
from probekit.data.importers.unfinished import LIST, Unfinished, folder_of, is_unfinished
from probekit.h5 import DatasetInfo, read_info, verify

SPLITS = (("train", 33), ("test", 9))
FUZZ = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 images and shards of 11, the last but one of which has of both splits."""
    monkeypatch.setattr("probekit.h5.schema.CHUNK_IMAGES", 4)
    monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", 11)
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
    how: dict[str, Any] = {"skip_broken": True, "overwrite": True, "compression": "gzip", "shard": None}
    how |= {name: changes.pop(name) for name in list(changes) if name in how}
    options = Options(**({"size": 8, "max_gb": 0.0 if encoded else None} | changes))
    told = Told(progress or stop, stop.lines.append)
    info, skipped = Import(options, out=out, told=told, **how).of(photos)
    return info, skipped, [line for line in stop.lines if not line.startswith("no near-duplicates")]


def bytes_of(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("after", [4, 13, 33, 36, 42])
def test_the_same_bytes_as_uninterrupted(tmp_path: Path, photos: Path, encoded: bool, after: int) -> None:
    whole, skipped, lines = take(photos, tmp_path / "whole.h5", encoded=encoded)
    assert [item.path for item in skipped] == ["train/a/010.png", "test/b/003.png"]
    assert lines == []
    assert sorted(bytes_of(whole.path)) == [f"{k}-of-4.h5" for k in (1, 2, 3, 4)]
    out = tmp_path / "a.h5"
    for stop in (after, after, after + 4):  # again and again
        with pytest.raises(KeyboardInterrupt):
            take(photos, out, encoded=encoded, after=min(stop, 42))
        assert is_unfinished(out) == (min(stop, 42) >= 11)
        assert not out.exists()
    info, again, lines = take(photos, out, encoded=encoded)
    assert bytes_of(out) == bytes_of(whole.path)
    assert info.content_hash == whole.content_hash
    assert again == skipped
    assert lines == [f"going on after {min(after + 4, 42) // 11} of 4 shards of an unfinished import"] * (after > 4)
    assert sorted(tmp_path.iterdir()) == [out, whole.path]


@pytest.mark.parametrize("encoded", [False, True])
def test_shards_are_the_file(tmp_path: Path, photos: Path, encoded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash too, though broken images are left out of some; joined, they are it byte for byte."""
    from probekit.data.reshard import reshard

    many = take(photos, tmp_path / "many.h5", encoded=encoded)[0]
    monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", 100)
    one = take(photos, tmp_path / "one.h5", encoded=encoded)[0]
    assert (verify(many.path).content_hash, many.splits) == (one.content_hash, one.splits)
    joined = reshard(many.path, tmp_path / "joined.h5", 1, overwrite=False, progress=lambda done, total: None)
    assert joined.path.read_bytes() == one.path.read_bytes()
    if many.parameters.get("duplicates"):
        assert many.parameters == one.parameters


@pytest.mark.parametrize("encoded", [False, True])
def test_each_shard_alone(tmp_path: Path, photos: Path, encoded: bool) -> None:
    whole, out = take(photos, tmp_path / "whole.h5", encoded=encoded)[0], tmp_path / "a.h5"
    skipped = []
    for index in (2, 1, 4, 3):
        info, left, _ = take(photos, out, encoded=encoded, shard=(index, 4), overwrite=False)
        assert info.shard is not None
        skipped += left
    assert read_info(out).content_hash == whole.content_hash
    assert {item.path for item in skipped} == {"train/a/010.png", "test/b/003.png"}
    with pytest.raises(FileExistsError, match="--overwrite"):
        take(photos, out, encoded=encoded, shard=(2, 4), overwrite=False)
    with pytest.raises(FileExistsError, match=r"2-of-4\.h5 of others"):
        take(photos, out, encoded=encoded, shard=(2, 4), size=10)
    with pytest.raises(ValueError, match="1 broken image"):
        take(photos, tmp_path / "b.h5", shard=(1, 4), skip_broken=False)
    assert not list((tmp_path / "b.h5").glob("*"))


def test_a_shard_of_nothing_but_broken_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for index in range(33):
        pixels = np.full((8, 8, 3), 7 * index, np.uint8)
        Image.fromarray(pixels).save(root / f"{index:02}.png")
        if 11 <= index < 22:
            (root / f"{index:02}.png").write_bytes(b"broken")
    info = take(root, tmp_path / "a.h5")[0]
    assert info.splits["train"].n == 22
    assert verify(info.path).content_hash == info.content_hash


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
    assert len(decoded) == 2 + 11  # of 42: one shard


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
@given(share=st.floats(0, 1), flip=st.booleans(), name=st.sampled_from(["1-of-4.h5", "2-of-4.h5", LIST]))
def test_damage_anywhere_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, photos: Path, share: float, flip: bool, name: str
) -> None:
    """A line says so, or the bytes are those of an import that nothing happened to."""
    folder = tmp_path_factory.mktemp("cut")
    whole = take(photos, folder / "whole.h5")[0]
    out = folder / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=38)
    path = folder_of(out) / name
    content = bytearray(path.read_bytes())
    place = int(share * (len(content) - 1))
    if flip:
        content[place] ^= 0x41
    else:
        del content[place:]
    path.write_bytes(content)
    take(photos, out)
    assert bytes_of(out) == bytes_of(whole.path)


def test_an_interruption_while_going_on_loses_nothing(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written, but for the last note or the new name."""
    out, add = tmp_path / "a.h5", Unfinished.add

    def interrupted(*arguments: Any) -> None:
        if arguments[1:] == () or "4-of-4.h5" in arguments:
            raise KeyboardInterrupt
        add(*arguments)

    for name in ("add", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(Unfinished, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                take(photos, out)
    take(photos, out)
    assert bytes_of(out) == bytes_of(take(photos, tmp_path / "b.h5")[0].path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_two_imports_of_one_file_do_not_meet(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"

    def meet(done: int, total: int) -> None:
        with pytest.raises(ValueError, match="at work; wait for it"):
            take(photos, out)

    whole = take(photos, out, progress=meet)[0]
    assert bytes_of(whole.path) == bytes_of(take(photos, tmp_path / "b.h5")[0].path)


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
    assert "going on after 3 of 4" in take(photos, out)[2][0]
    assert len(read_info(out).files) == 4


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path, photos: Path) -> None:
    out = take(photos, tmp_path / "a.h5")[0].path
    with pytest.raises(FileExistsError, match="--overwrite"):
        take(photos, out, overwrite=False)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"found 'notes\.txt' in it"):
        take(photos, out)
    (out / "notes.txt").unlink()
    take(photos, out, size=10)
    assert read_info(out).first.height == 10
    assert list(tmp_path.iterdir()) == [out]


def test_what_a_kill_left_of_an_older_dataset_is_removed(tmp_path: Path, photos: Path) -> None:
    out = take(photos, tmp_path / "a.h5")[0].path
    shutil.copytree(out, tmp_path / ".a.h5.old")
    take(photos, out, size=10)
    assert read_info(out).first.height == 10
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("done", ["[]", "3", '{"1-of-4.h5": []}'])
def test_a_list_of_something_else_is_none(tmp_path: Path, done: str) -> None:
    folder_of(tmp_path / "a.h5").mkdir()
    (folder_of(tmp_path / "a.h5") / LIST).write_text(f'{{"identity": {{}}, "done": {done}}}')
    assert not is_unfinished(tmp_path / "a.h5")


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
    root = tmp_path / "set"
    shutil.copytree(photos, root)
    with pytest.raises(KeyboardInterrupt):
        take(root, tmp_path / "a.h5", after=38)
    CHANGES[kind](root)
    take(root, tmp_path / "a.h5")
    whole = take(root, tmp_path / "whole.h5")[0]
    assert bytes_of(tmp_path / "a.h5") == bytes_of(whole.path)


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
    assert is_unfinished(out)
    assert take(root, tmp_path / "b.h5")[0].splits["train"].channels == 3
    (root / "15.png").unlink()
    assert take(root, out)[0].splits["train"].channels == 1


def test_other_settings_begin_anew_and_say_so(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=30)
    _, _, lines = take(photos, out, size=10)
    assert lines == ["an unfinished import of other settings or images was dropped: this one begins anew"]
    assert bytes_of(out) == bytes_of(take(photos, tmp_path / "b.h5", size=10)[0].path)


def test_broken_images_keep_what_was_done(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        take(photos, out, after=20)
    for _ in range(2):
        with pytest.raises(ValueError, match="2 broken images"):
            take(photos, out, skip_broken=False)
    _, _, lines = take(photos, out)
    assert lines == ["going on after 3 of 4 shards of an unfinished import"]
    assert bytes_of(out) == bytes_of(take(photos, tmp_path / "b.h5")[0].path)


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
import probekit.h5.schema, probekit.data.importers.importer, probekit.data.importers.stream
probekit.h5.schema.CHUNK_IMAGES = probekit.data.importers.stream.FILES = 4
probekit.data.importers.importer.IN_A_SHARD = 11
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
    assert is_unfinished(out)
    _, _, lines = take(photos, out)
    assert lines == ["going on after 2 of 4 shards of an unfinished import"]
    assert bytes_of(out) == bytes_of(take(photos, tmp_path / "b.h5")[0].path)
    assert read_info(out).splits["train"].n == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]
