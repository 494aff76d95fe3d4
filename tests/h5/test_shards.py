"""Datasets in shards: as one file in all that is read, their hash too; what does not belong together is one line.

Alone: pytest tests/h5/test_shards.py
"""

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from probekit.data.divide import Division, divide
from probekit.data.divide import default_out as divided_out
from probekit.data.generate import generate, generate_shards
from probekit.data.reshard import default_out, reshard
from probekit.h5 import (
    DatasetWriter,
    EncodedBlock,
    Header,
    Shard,
    as_columns,
    encode,
    is_dataset,
    open_encoded,
    pack,
    read_images,
    read_info,
    read_split,
    verify,
)
from probekit.h5.planned import check_shard, parse_shard, planned_shard
from probekit.results import stem_of
from tests.datasets import edited
from tests.h5.test_encoded import HEADER as ENCODED
from tests.h5.test_encoded import one_label, smooth
from tests.h5.test_h5 import HEADER, assert_one_line, assert_same, cut, rows

FUZZ = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def divided(folder: Path, n: dict[str, int], count: int, *, header: Header = HEADER) -> Path:
    """Shards of random rows, which are those of `whole`."""
    for index in range(1, count + 1):
        shard = planned_shard(index, count, n)
        with DatasetWriter(
            folder / shard.file, header=header, compression="gzip", overwrite=True, shard=shard
        ) as writer:
            for name, own in shard.ranges.items():
                writer.begin(name, len(own))
                writer.append(pack(cut(rows(n[name], seed=len(name)), slice(own.start, own.stop)), "gzip"))
    return folder


def whole(path: Path, n: dict[str, int]) -> Path:
    with DatasetWriter(path, header=HEADER, compression="gzip", overwrite=True) as writer:
        for name, many in n.items():
            writer.begin(name, many)
            writer.append(pack(rows(many, seed=len(name)), "gzip"))
    return path


N = {"train": 90, "test": 30}


def quiet(done: int, total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file, and the same in four shards."""
    folder = tmp_path_factory.mktemp("kept")
    whole(folder / "whole.h5", N)
    divided(folder / "set.h5", N, 4)
    return folder


@pytest.fixture
def made(kept: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to be damaged."""
    return Path(shutil.copytree(kept / "set.h5", tmp_path / "set.h5"))


@FUZZ
@given(n=st.integers(1, 70), n_test=st.integers(0, 70), share=st.floats(0, 1), data=st.data())
def test_any_division_is_read_as_the_whole(
    tmp_path_factory: pytest.TempPathFactory, n: int, n_test: int, share: float, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    planned = {"train": n} | ({"test": n_test} if n_test else {})
    count = 1 + int(share * (sum(planned.values()) - 1))
    one, many = whole(folder / "a.h5", planned), divided(folder / "b.h5", planned, min(count, 12))
    assert verify(many).content_hash == verify(one).content_hash
    info = read_info(many)
    assert info.splits == read_info(one).splits
    assert info.name == "b"
    for split, total in planned.items():
        start = data.draw(st.integers(0, total - 1))
        stop = data.draw(st.integers(start + 1, total))
        parts = (read_split(path, split, start=start, stop=stop, masks=True) for path in (many, one))
        assert_same(*parts)
        wanted = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=5))
        found, expected = (read_images(path, split, wanted) for path in (many, one))
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_a_folder_a_pattern_and_a_file_mean_the_same(kept: Path, tmp_path: Path) -> None:
    pattern = kept / "set.h5" / "*-of-4.h5"
    assert read_info(pattern).content_hash == read_info(kept / "set.h5").content_hash
    assert read_info(pattern).name == "of-4"
    assert read_info(kept / "set.h5" / "*.h5").name == "set"
    odd = tmp_path / "a[1]*.h5"  # a file is a file, whatever its name
    shutil.copy(kept / "whole.h5", odd)
    shutil.copy(kept / "whole.h5", tmp_path / "a1b.h5")
    assert read_info(odd).files == (odd,)
    folder = Path(shutil.copytree(kept / "set.h5", tmp_path / "set[ab]"))
    assert len(read_info(folder).files) == 4
    assert read_info(tmp_path / "a1*.h5").files == (tmp_path / "a1b.h5",)
    assert [is_dataset(path) for path in (pattern, odd, tmp_path / "z*.h5", tmp_path / "none.h5", tmp_path)] == [
        True, True, False, False, True,
    ]  # fmt: skip


def test_other_files_in_the_folder_are_left_alone(made: Path) -> None:
    (made / "notes.txt").write_text("mine")
    (made / ".1-of-4.h5.partial").write_bytes(b"half")
    (made / "._1-of-4.h5").write_bytes(b"a system's")
    (made / "old.h5").mkdir()
    assert len(read_info(made).files) == 4


def other(folder: Path, index: int, **changes: Any) -> None:
    """Writes a shard anew, of other settings."""
    n, count = changes.pop("n", N), changes.pop("count", 4)
    shard = planned_shard(index, count, n)
    header = Header(**({name: getattr(HEADER, name) for name in HEADER.__dataclass_fields__} | changes))
    with DatasetWriter(
        folder / Shard(index, 4, N).file, header=header, compression="gzip", overwrite=True, shard=shard
    ) as w:
        for name, own in shard.ranges.items():
            w.begin(name, len(own))
            w.append(pack(cut(rows(n[name], seed=len(name)), slice(own.start, own.stop)), "gzip"))


def versioned(folder: Path) -> None:
    with edited(folder / "3-of-4.h5") as file:
        file.attrs["version"] = "0.0.9"


def lopsided(folder: Path) -> None:
    shard = planned_shard(3, 4, N)
    with DatasetWriter(folder / shard.file, header=HEADER, compression="gzip", overwrite=True, shard=shard) as writer:
        writer.begin("train", 30)
        writer.append(pack(rows(30, (8, 8)), "gzip"))


def flipped(folder: Path) -> None:
    with h5py.File(folder / "2-of-4.h5", "r+") as file:
        file["train/images"][3, 3, 3] ^= 1


def removed(*paths: Path) -> None:
    for path in paths:
        path.unlink()


WRONG: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "one missing": (lambda folder: (folder / "3-of-4.h5").unlink(), ("all 4 shards", "is 3/4", "--shard 3/4")),
    "two missing": (
        lambda folder: removed(folder / "1-of-4.h5", folder / "3-of-4.h5"),
        ("are 2: 1/4, 3/4",),
    ),
    "one twice": (
        lambda folder: shutil.copy(folder / "2-of-4.h5", folder / "copy.h5"),
        ("once", "2/4 in 2-of-4.h5 and in copy.h5"),
    ),
    "another seed": (lambda folder: other(folder, 3, seed=7), ("3-of-4.h5 of another: seed 7, elsewhere 92",)),
    "the first foreign": (lambda folder: other(folder, 1, seed=7), ("1-of-4.h5 of another: seed 7",)),
    "another parameter": (
        lambda folder: other(folder, 3, parameters={"gap": 2.5, "whole": True}),
        ("3-of-4.h5 of another: parameters gap 2.5, elsewhere 1.5",),
    ),
    "another n": (lambda folder: other(folder, 3, n={"train": 80, "test": 30}), ("n train 80, elsewhere 90",)),
    "another number": (lambda folder: other(folder, 3, count=5), ("3-of-4.h5", "number of shards 5, elsewhere 4")),
    "another version": (versioned, ("3-of-4.h5", "version 0.0.9")),
    "another size": (lopsided, ("3-of-4.h5", "shape")),
    "a whole file beside": (lambda folder: whole(folder / "x.h5", {"train": 5}), ("x.h5, which is a whole one",)),
    "one cut off": (lambda folder: os.truncate(folder / "2-of-4.h5", 3000), ("2-of-4.h5",)),
    "one empty": (lambda folder: os.truncate(folder / "2-of-4.h5", 0), ("2-of-4.h5",)),
    "one damaged": (flipped, ("2-of-4.h5", "checksum")),
    "a link to nothing": (lambda folder: (folder / "y.h5").symlink_to("nowhere"), ("y.h5", "found nothing")),
    "a device": (lambda folder: (folder / "y.h5").symlink_to("/dev/null"), ("y.h5", "device")),
    "no file left": (lambda folder: removed(*folder.glob("*")), ("folder without any",)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_belong_together_is_one_line(made: Path, kind: str) -> None:
    act, words = WRONG[kind]
    act(made)
    assert_one_line(lambda: verify(made), *words)


def test_a_shard_alone_is_no_dataset(made: Path) -> None:
    assert_one_line(lambda: read_info(made / "2-of-4.h5"), "all 4 shards", "are 3: 1/4, 3/4, 4/4")
    assert_one_line(lambda: read_info(made / "[12]-of-4.h5"), f"name the folder {made}, which has them")
    (made / "4-of-4.h5").rename(made.parent / "4-of-4.h5")
    assert_one_line(lambda: read_info(made.parent / "4-of-4.h5"), "again with --shard 1/4")
    assert_one_line(lambda: read_info(made / "none*.h5"), "nothing at")
    assert_one_line(lambda: read_info(made.parent / "*"), "found the folder")


def test_of_a_shard_that_hdf5_cannot_read_it_is_said_what_to_do(made: Path) -> None:
    for damage in (lambda content: content[:-500], lambda content: b""):
        (made / "2-of-4.h5").write_bytes(damage((made / "2-of-4.h5").read_bytes()))
        assert_one_line(lambda: verify(made), "2-of-4.h5", "; restore it from a copy, or remove it and make it anew")


def test_what_has_changed_is_seen(made: Path) -> None:
    before = read_info(made)
    assert read_info(made) == before
    (made / "3-of-4.h5").unlink()
    assert_one_line(lambda: read_info(made), "is 3/4")
    other(made, 3)
    assert read_info(made) == before


def test_the_line_about_a_missing_shard_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from probekit.cli import app

    monkeypatch.chdir(tmp_path)
    about: dict[str, Any] = {"n": 9, "n_test": 4, "seed": 3, "size": 16, "parameters": {"corner_radius": 2}}
    info = generate_shards("rect-tri", 3, out=Path("a.h5"), pairs=True, **about)
    assert (
        read_info(Path("a.h5")).content_hash == generate("rect-tri", out=Path("b.h5"), pairs=True, **about).content_hash
    )
    content = (tmp_path / "a.h5" / "2-of-3.h5").read_bytes()
    (tmp_path / "a.h5" / "2-of-3.h5").unlink()
    with pytest.raises(ValueError, match="missing is 2/3; type: ") as caught:
        read_info(Path("a.h5"))
    words = str(caught.value).partition("type: probekit ")[2].split()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a.h5" / "2-of-3.h5").read_bytes() == content
    assert read_info(Path("a.h5")) == info


def test_a_shard_that_is_there_is_kept_and_a_foreign_one_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    about: dict[str, Any] = {"n": 9, "n_test": 4, "size": 16}
    first = generate("rect-tri", out=out, shard=(1, 2), **about)
    os.utime(first.path, ns=(1, 1))
    assert generate("rect-tri", out=out, shard=(1, 2), **about).path == first.path
    assert first.path.stat().st_mtime_ns == 1
    generate("rect-tri", out=out, shard=(1, 2), overwrite=True, **about)
    assert first.path.stat().st_mtime_ns != 1
    changes: list[dict[str, Any]] = [{"seed": 1}, {"n": 10}, {"masks": False}, {"parameters": {"corner_radius": 2}}]
    for changed in changes:
        assert_one_line(partial(generate, "rect-tri", out=out, shard=(2, 2), **about | changed), "1-of-2")
    assert_one_line(lambda: generate("rect-tri", out=out, shard=(1, 3), **about), "1-of-2")
    (tmp_path / "b.h5").write_bytes(b"mine")
    assert_one_line(lambda: generate("rect-tri", out=tmp_path / "b.h5", shard=(2, 2), **about), "b.h5", "a file")
    assert_one_line(lambda: generate("rect-tri", out=out, overwrite=True, **about), "folder of shards")
    assert check_shard(tmp_path / "c.h5", HEADER, Shard(1, 2, N), compression="gzip") is None


def test_numbers_of_shards() -> None:
    assert parse_shard("3/64") == (3, 64)
    assert parse_shard("03/64") == (3, 64)
    for text in ("0/4", "5/4", "3", "3/", "-1/4", "a/b", "3/64/2", ""):
        assert_one_line(lambda text=text: parse_shard(text), "1/64 to 64/64", "type --shard 1/64")  # type: ignore[misc]
    assert_one_line(lambda: planned_shard(1, 121, N), "at most as many shards as images, 120, found 121")
    assert Shard(3, 64, N).file == "03-of-64.h5"
    found = [Shard(index, 7, N).ranges for index in range(1, 8)]
    for name, n in N.items():
        assert [row for own in found for row in own.get(name, ())] == list(range(n))
    sizes = [sum(map(len, own.values())) for own in found]
    assert max(sizes) - min(sizes) <= 1


# --- encoded images ---


def encoded_shards(folder: Path, images: NDArray[np.uint8], count: int) -> Path:
    labels = one_label(len(images))
    for index in range(1, count + 1):
        shard = planned_shard(index, count, {"train": len(images)})
        own = shard.ranges["train"]
        with DatasetWriter(
            folder / shard.file, header=ENCODED, compression="none", overwrite=False, shard=shard
        ) as writer:
            writer.begin("train", len(own))
            files = [encode(images[row]) for row in own]
            writer.append(EncodedBlock(images.shape[1:], files, as_columns(labels[own.start : own.stop], {})))
    return folder


def test_encoded_images_of_many_shards_with_few_files_open(tmp_path: Path) -> None:
    images = smooth(300)
    folder = encoded_shards(tmp_path / "a.h5", images, 100)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with closing(open_encoded(folder, "train")) as encoded:
        assert encoded.shape == images.shape
        order = np.random.default_rng(0).permutation(300)
        assert encoded.read(order) == [encode(images[row]) for row in order]
        if before:
            assert len(os.listdir("/proc/self/fd")) <= before + 64
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
    assert read_info(folder).content_hash == verify(folder).content_hash


def test_a_new_file_of_a_pattern_is_no_further_file_of_it(kept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(kept / "set.h5", tmp_path / "parts"))
    for name, whole_name in (("*.h5", "parts-whole.h5"), ("*-of-4.h5", "of-4-whole.h5")):
        info = read_info(folder / name)
        out = default_out(info, 1)
        assert out == tmp_path / whole_name
        assert divided_out(folder / name).parent == tmp_path
        reshard(info.path, out, 1, overwrite=False, progress=quiet)
        assert read_info(folder / name).content_hash == read_info(out).content_hash == info.content_hash
    division = Division(val_fraction=0.2)
    for refused in (folder / "9-of-4.h5", folder / "1-of-4.h5"):
        line = rf"expected another place than .*; type --out {tmp_path}/of-4-whole.h5"
        with pytest.raises(ValueError, match=line):
            reshard(folder / "*-of-4.h5", refused, 1, overwrite=True, progress=quiet)
        with pytest.raises(ValueError, match="expected another file than"):
            divide(folder / "*.h5", refused, division, runs=tmp_path, overwrite=True, say=print, progress=quiet)
    assert read_info(folder / "*.h5").content_hash == read_info(kept / "whole.h5").content_hash


def test_results_on_a_pattern_have_a_name_that_files_may_have() -> None:
    assert stem_of(("linear", "last"), Path("data/train-*.h5")) == "linear-last-train"
    assert stem_of(("linear", "last"), Path("data/set/[0-9]*.h5")) == "linear-last-0-9"
    assert stem_of(("linear", "last"), Path("data/set/*.h5")) == "linear-last-set"
