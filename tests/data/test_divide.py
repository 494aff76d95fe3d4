"""`probekit split`: shares of each class, whole groups, the same rows; what had been seen is said; refusals run.

Alone: pytest tests/data/test_divide.py
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.apart import pick
from probekit.data.divide import Division, divide
from probekit.h5 import (
    DatasetInfo,
    DatasetWriter,
    EncodedBlock,
    Header,
    Split,
    as_columns,
    encode,
    pack,
    read_info,
    read_split,
    verify,
)
from probekit.run import create_run
from tests.datasets import RUN, small_shapes

CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.h5.schema.CHUNK_IMAGES", 4)
    monkeypatch.setattr("probekit.data.divide.FILES", 5)


def labels(n: int) -> NDArray[np.int64]:
    return np.arange(n) * 7 % 3


def held(n: int, seed: int, groups: Sequence[str] | None = None) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    of = [f"p{seed}{k // 4}" for k in range(n)] if groups is None else groups
    factors = {"patient": np.array(of, "S8"), "row": np.arange(n, dtype=np.int32) + 1000 * seed}
    return Split(images, labels(n), factors, rng.integers(0, 4, (n, 8, 8), dtype=np.uint8))


def write(
    path: Path, splits: dict[str, Split], *, encoded: bool = False, compression: str = "gzip", kind: str = "text"
) -> Path:
    factors: list[dict[str, Any]] = [
        {"name": "patient", "kind": kind},
        {"name": "row", "kind": "real", "low": 0, "high": 9999},
    ]
    names = () if encoded else ("one", "two")
    header = Header(
        generator="", parameters={"source": "x"}, seed=3, classes=CLASSES, factors=factors, mask_names=names
    )
    with DatasetWriter(path, header=header, compression=compression, overwrite=False) as writer:
        for name, rows in splits.items():
            writer.begin(name, len(rows.images))
            for k in range(0, len(rows.images), 4):
                part = slice(k, k + 4)
                factor = {each: values[part] for each, values in rows.factors.items()}
                assert rows.labels is not None
                assert rows.masks is not None
                if encoded:
                    files = [encode(image) for image in rows.images[part]]
                    writer.append(EncodedBlock((8, 8, 3), files, as_columns(rows.labels[part], factor)))
                else:
                    kept = Split(rows.images[part], rows.labels[part], factor, rows.masks[part])
                    writer.append(pack(kept, compression))
    return path


def run(path: Path, out: Path, **asked: Any) -> tuple[DatasetInfo, list[str]]:
    lines: list[str] = []
    division = Division(**asked)
    how: dict[str, Any] = {"runs": path.parent / "runs", "overwrite": False, "say": lines.append}
    return divide(path, out, division, progress=lambda done, total: None, **how), lines


def rows_of(info: DatasetInfo) -> dict[str, list[int]]:
    """The numbers of the rows in each split."""
    return {name: read_split(info.path, name, images=False).factors["row"].tolist() for name in info.splits}


@pytest.mark.parametrize(("encoded", "compression"), [(False, "gzip"), (False, "none"), (False, "lzf"), (True, "none")])
def test_rows_are_copied_and_the_old_file_stays(tmp_path: Path, encoded: bool, compression: str) -> None:
    parts = {"train": held(43, 0), "test": held(9, 1)}
    path = write(tmp_path / "a.h5", parts, encoded=encoded, compression=compression)
    before = path.read_bytes()
    old = {name: read_split(path, name, masks=True) for name in parts}
    info, _ = run(path, tmp_path / "b.h5", val_fraction=0.25)
    assert path.read_bytes() == before
    verify(info.path)
    assert info.content_hash != read_info(path).content_hash
    assert {name: split.n for name, split in info.splits.items()} == {"train": 31, "val": 12, "test": 9}
    for name in info.splits:
        new = read_split(info.path, name, masks=True)
        source = old["test" if name == "test" else "train"]
        chosen = new.factors["row"] % 1000
        np.testing.assert_array_equal(new.images, source.images[chosen])
        np.testing.assert_array_equal(new.labels, np.asarray(source.labels)[chosen])
        np.testing.assert_array_equal(new.factors["patient"], source.factors["patient"][chosen])
        if not encoded:
            assert source.masks is not None
            np.testing.assert_array_equal(new.masks, source.masks[chosen])
    assert sorted(rows_of(info)["train"] + rows_of(info)["val"]) == list(range(43))
    assert (info.seed, info.classes, info.parameters["source"]) == (3, CLASSES, "x")
    assert info.parameters["split"]["hash"] == read_info(path).content_hash


def test_shares_are_of_each_class_and_of_the_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": held(60, 0)})
    first, _ = run(path, tmp_path / "b.h5", val_fraction=0.2, test_fraction=0.1)
    again, _ = run(path, tmp_path / "c.h5", val_fraction=0.2, test_fraction=0.1)
    other, _ = run(path, tmp_path / "d.h5", val_fraction=0.2, test_fraction=0.1, seed=1)
    assert first.path.read_bytes() == again.path.read_bytes()
    assert rows_of(first) != rows_of(other)
    for name, n in (("test", 2), ("val", 4), ("train", 14)):
        counts = Counter(np.asarray(read_split(first.path, name, images=False).labels).tolist())
        assert set(counts.values()) == {n}


def test_joined_and_by_group_no_patient_is_on_two_sides(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": held(48, 0), "val": held(12, 1), "test": held(20, 2)})
    info, lines = run(path, tmp_path / "b.h5", test_fraction=0.25, val_fraction=0.2, group="patient", join=True)
    sides = {name: set(read_split(info.path, name).factors["patient"].tolist()) for name in info.splits}
    assert not sides["train"] & sides["test"]
    assert not (sides["train"] | sides["test"]) & sides["val"]
    assert sorted(k for own in rows_of(info).values() for k in own) == sorted(
        [*range(48), *range(1000, 1012), *range(2000, 2020)]
    )
    assert 16 <= info.splits["test"].n <= 24
    assert "images of the old train are val and test now" in lines[0]


def test_groups_that_stand_on_both_sides_are_said(tmp_path: Path) -> None:
    both = held(9, 1, groups=["p00", "p01"] * 4 + ["p02"])
    path = write(tmp_path / "a.h5", {"train": held(48, 0), "test": both})
    _, lines = run(path, tmp_path / "b.h5", val_fraction=0.2, group="patient")
    assert any(line.startswith("3 values of 'patient' are both in train and in test") for line in lines)


def test_a_group_that_the_import_kept_is_not_divided_though_it_is_not_typed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": held(40, 0)}, kind="key")
    info, said = run(path, tmp_path / "b.h5", test_fraction=0.3)
    sides = [set(read_split(info.path, name).factors["patient"].tolist()) for name in ("train", "test")]
    assert not sides[0] & sides[1]
    assert any("'patient' stay together (--group patient)" in line for line in said)


def test_runs_that_have_seen_the_new_test_images_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": held(40, 0)})
    for name, found in (("mine", read_info(path).content_hash), ("other", "0" * 64)):
        create_run(tmp_path / "runs" / name, RUN | {"dataset": {"path": "a.h5", "hash": found}}, overwrite=False)
    _, lines = run(path, tmp_path / "b.h5", test_fraction=0.2)
    assert lines[0].startswith("9 images of the old train are test now: runs trained on")
    assert "(mine)" in lines[0]


def test_near_duplicates_can_be_kept_on_one_side(tmp_path: Path) -> None:
    smooth = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    twice = held(40, 0)
    twice.images[:] = np.concatenate([smooth, smooth])
    path = write(tmp_path / "a.h5", {"train": twice})
    apart, lines = run(path, tmp_path / "b.h5", test_fraction=0.3)
    assert apart.parameters["duplicates"]["test in train"]["n"] > 0
    assert any("have a near-duplicate in train" in line for line in lines)
    together, lines = run(path, tmp_path / "c.h5", test_fraction=0.3, group="duplicates")
    assert "40 images, 20 of them different" in lines
    assert together.parameters["duplicates"]["test in train"]["n"] == 0


def test_pairs_of_drawn_images_stay_together(tmp_path: Path) -> None:
    path = small_shapes(tmp_path / "a.h5", n=24, n_test=8, pairs=True).path
    whole, _ = run(path, tmp_path / "c.h5", test_fraction=0.25, join=True)
    first = read_split(whole.path, "train", images=False).factors["pair_id"].tolist()
    assert all(first.count(n) in (0, 3, 6) for n in first)  # a base and two counterfactuals, of either split
    twice = set(read_split(path, "test", images=False).factors["pair_id"].tolist())
    assert any(first.count(n) == 3 for n in twice)  # one is in train, and another of that number in test
    info, lines = run(path, tmp_path / "b.h5", val_fraction=0.25, join=False)
    sides = {name: set(read_split(info.path, name).factors["pair_id"].tolist()) for name in ("train", "val")}
    assert not sides["train"] & sides["val"]
    assert "counterfactuals stay together" in lines[0]
    assert info.parameters == read_info(path).parameters


@given(
    sizes=st.lists(st.integers(1, 9), min_size=4, max_size=20),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 9),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_groups_are_never_divided(sizes: list[int], fraction: float, seed: int, data: Any) -> None:
    groups = [k for k, n in enumerate(sizes) for _ in range(n)]
    found = [data.draw(st.integers(0, 1)) for _ in groups]
    keys = list(map(str, range(len(groups))))
    try:
        goes = pick(keys, found, groups, "test", fraction, seed, CLASSES)
    except ValueError:
        assume(False)
    gone = {group for group, each in zip(groups, goes, strict=True) if each}
    assert not gone & {group for group, each in zip(groups, goes, strict=True) if not each}
    for label in set(found):
        own = [each for each, own in zip(goes, found, strict=True) if own == label]
        assert any(own)
        assert not all(own)


WRONG: dict[str, tuple[list[str], str]] = {
    "no share": ([], "type --test-fraction 0.2"),
    "a test split there": (["--test-fraction", "0.2"], "type --join to divide all anew"),
    "no such group": (["--val-fraction", "0.2", "--group", "eye"], "one of patient, row, duplicates"),
    "the file itself": (["--val-fraction", "0.2", "--out", "a.h5"], "type --out a-split.h5"),
    "groups too few": (["--val-fraction", "0.2", "--group", "patient"], "enough groups in class"),
}


NEXT = {  # what the line says to type, with what was typed
    "a test split there": ["--test-fraction", "0.2", "--join"],
    "the file itself": ["--val-fraction", "0.2", "--out", "a-split.h5"],
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_and_what_it_says_runs(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.h5"), {"train": held(24, 0, groups=["one"] * 24), "test": held(6, 1)})
    typed, words = WRONG[case]
    refused = CliRunner().invoke(app, ["split", "a.h5", *typed])
    text = str(refused.exception)
    assert isinstance(refused.exception, ValueError)
    assert words in text
    assert "\n" not in text
    assert not Path("a-split.h5").exists()
    if more := NEXT.get(case):
        assert more[-1] in text
        assert CliRunner().invoke(app, ["split", "a.h5", *NEXT[case]]).exit_code == 0


def test_a_class_with_one_image_is_one_line(tmp_path: Path) -> None:
    rows = held(12, 0)
    alone = Split(rows.images, np.array([0] * 11 + [1]), rows.factors, rows.masks)
    path = write(tmp_path / "a.h5", {"train": alone})
    for shares, instead in (
        ({"val_fraction": 0.1}, "add images, or leave such classes out when it is imported"),
        ({"val_fraction": 0.1, "test_fraction": 0.1}, "add images, or type --test-fraction 0"),
    ):
        with pytest.raises(ValueError, match=r"expected enough images in class .b. for train and .*, found 1") as told:
            run(path, tmp_path / "b.h5", **shares)
        assert str(told.value).endswith(instead), "nothing that is refused, too"
    assert not (tmp_path / "b.h5").exists()
