"""Formats of others: pixels, labels, order and factors are as planned; damage is one line; what is asked for runs.

Alone: pytest tests/data/importers/test_formats.py
"""

import io
import json
import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.importers.rows import steps
from probekit.data.importers.tables import Table, _runs
from probekit.data.importers.unfinished import Unfinished, is_unfinished
from probekit.h5 import read_info, read_split, verify
from tests.data.importers import formats
from tests.data.importers.formats import FORMATS, Mini, N, pictures, png, table
from tests.data.importers.test_importers import assert_refused, take

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and runs of few images, so that few make many."""
    monkeypatch.setattr("probekit.h5.schema.CHUNK_IMAGES", 4)
    monkeypatch.setattr("probekit.data.importers.rows.ROWS", 3)


def made(name: str, folder: Path) -> Mini:
    return FORMATS[name].make(folder)


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_read_as_planned(tmp_path: Path, name: str) -> None:
    mini = made(name, tmp_path)
    info, _ = take(mini.source, tmp_path / "out.h5", **mini.typed)
    assert info.classes == mini.classes
    assert list(info.splits) == list(mini.images)
    for split, images in mini.images.items():
        rows = read_split(info.path, split)
        np.testing.assert_array_equal(rows.images, images)
        assert rows.labels is not None
        assert rows.labels.tolist() == mini.labels[split]
    rows = read_split(info.path, "train")
    for factor, values in mini.factors.items():
        np.testing.assert_allclose(rows.factors[factor], values, rtol=1e-6)
    assert {f["name"] for f in info.factors} >= mini.factors.keys()
    verify(info.path)


@pytest.mark.parametrize("name", [name for name in FORMATS if "imagefolder" not in name])
def test_a_truncated_file_is_one_line(tmp_path: Path, name: str) -> None:
    mini = made(name, tmp_path)
    whole = mini.whole.read_bytes()
    for share in (0.95, 0.5, 0.02):
        mini.whole.write_bytes(whole[: int(share * len(whole))])
        assert_refused(mini.source, tmp_path / "out.h5", str(mini.whole), **mini.typed)


@pytest.mark.parametrize("name", FORMATS)
def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = made(name, tmp_path)
    take(mini.source, tmp_path / "whole.h5", **mini.typed)
    monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", 2)
    take(mini.source, tmp_path / "shards.h5", **mini.typed)
    assert read_info(tmp_path / "shards.h5").content_hash == read_info(tmp_path / "whole.h5").content_hash
    out, add, done = tmp_path / "out.h5", Unfinished.add, list[str]()

    def stop(unfinished: Unfinished, file: str, *rest: Any) -> None:
        add(unfinished, file, *rest)
        done.append(file)
        if len(done) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Unfinished, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            take(mini.source, out, **mini.typed)
    assert is_unfinished(out)
    take(mini.source, out, **mini.typed)
    for path in (tmp_path / "shards.h5").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["Hugging Face parquet", "Hugging Face `save_to_disk`", "webdataset", "HDF5"])
def test_a_group_is_kept_and_not_divided(tmp_path: Path, name: str) -> None:
    mini = made(name, tmp_path)
    key = "{split}/site" if name == "HDF5" else "site"
    info, _ = take(mini.source, tmp_path / "out.h5", group=key, val_fraction=0.3, **mini.typed)
    assert [f["name"] for f in info.factors] == ["site"]
    sites = {split: set(read_split(info.path, split).factors["site"].tolist()) for split in info.splits}
    assert not sites["train"] & sites["val"]
    assert sites["train"] | sites["val"] == {f"s{k // 3}".encode() for k in range(N["train"])}


def test_groups_on_both_sides_of_a_division_are_said_and_what_it_says_to_type_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def write(name: str, test: list[str]) -> None:
        train = [f"p{k // 2}" for k in range(40)]
        arrays = {
            "x_train": rng.integers(0, 256, (40, 8, 8), np.uint8), "y_train": np.arange(40) // 2 % 2, "p_train": train,
            "x_test": rng.integers(0, 256, (8, 8, 8), np.uint8), "y_test": np.arange(8) // 2 % 2, "p_test": test,
        }  # fmt: skip
        np.savez(name, **{key: np.array(values) for key, values in arrays.items()})  # type: ignore[arg-type]

    def said(name: str, *typed: str) -> str:
        keys = ("--images", "x_{split}", "--labels", "y_{split}", "--group", "p_{split}", "--no-duplicates")
        done = CliRunner(env={"COLUMNS": "500"}).invoke(app, ["import", name, *(typed or keys), "--overwrite"])
        assert done.exit_code == 0, done.exception
        return done.output

    write("apart.npz", [f"q{k}" for k in range(8)])
    assert "are in train, too" not in said("apart.npz")
    write("mixed.npz", [f"p{k}" for k in range(5)] + ["q0", "q1", "q2"])
    told = said("mixed.npz")
    assert "5 of 8 values of p in test are in train, too: 'p0', 'p1', 'p2', ..." in told
    [typed] = re.findall(r"to have each on one side type: (probekit .+)", told)
    done = CliRunner().invoke(app, [*shlex.split(typed)[1:], "--out", "again.h5"])
    assert done.exit_code == 0, done.exception
    patients = [set(read_split(Path("again.h5"), split).factors["p"].tolist()) for split in ("train", "test")]
    assert not patients[0] & patients[1]


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if name.split()[0] in ("HDF5", "npz", "dSprites", "Synbols")]
)
def test_what_it_says_to_type_runs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mini = made(name, tmp_path)
    refused = CliRunner().invoke(app, ["import", str(mini.source)])
    typed = re.split(r", or ", str(refused.exception).partition("; type ")[2])[0]
    assert typed == mini.asks
    done = CliRunner().invoke(app, ["import", str(mini.source), *shlex.split(typed)])
    assert done.exit_code == 0, done.exception
    assert len(list((tmp_path / "data").glob("*.h5"))) == 1


def test_the_table_in_the_docs_is_this_one() -> None:
    assert formats.rows() in (ROOT / "docs/datasets.md").read_text()


def test_shards_are_what_webdataset_reads(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    mini = made("webdataset", tmp_path)
    files = sorted(map(str, mini.source.glob("train-*.tar")))
    read = webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode("rgb8").to_tuple("png", "cls")
    images, labels = zip(*read, strict=True)
    info, _ = take(mini.source, tmp_path / "out.h5")
    rows = read_split(info.path, "train")
    np.testing.assert_array_equal(rows.images, np.stack(images))
    assert rows.labels is not None
    assert rows.labels.tolist() == list(labels)


def test_a_pattern_means_all_its_shards(tmp_path: Path) -> None:
    mini = made("webdataset", tmp_path)
    info, _ = take(Path(f"{mini.source}/train-{{000000..000002}}.tar"), tmp_path / "out.h5")
    np.testing.assert_array_equal(read_split(info.path, "train").images, mini.images["train"])
    pattern = Path(f"{mini.source}/train-{{000000..000003}}.tar")
    assert_refused(pattern, tmp_path / "b.h5", "expected 4 files", "train-000003.tar")


def rewrite(path: Path, change: Callable[[Any], Any]) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(change(pq.read_table(path)), path)
    return path


def without_names(held: Any) -> Any:
    return held.replace_schema_metadata(None)


def own_sites(name: str) -> Callable[[Any], Any]:
    return lambda held: held.set_column(2, "site", [[f"{name} {k}" for k in range(len(held))]])


PARQUET: dict[str, tuple[Callable[[Path], object], dict[str, Any], list[str]]] = {
    "a part is missing": (
        lambda data: (data / "train-00000-of-00002.parquet").unlink(),
        {},
        ["expected 2 files of train", "number 0 is missing"],
    ),
    "hidden labels": (
        lambda data: [
            rewrite(path, lambda held: held.set_column(1, "label", [[-1] * len(held)])) for path in data.glob("test*")
        ],
        {},
        ["-1", "--skip-split test"],
    ),
    "another column of labels": (lambda data: None, {"labels": "sight"}, ["label, site", "'sight'"]),
    "an image that is no image": (lambda data: None, {"images": "site"}, ["expected --images", "'site'"]),
    "another value for every image": (
        lambda data: [rewrite(path, own_sites(path.name)) for path in data.glob("*")],
        {"labels": "site"},
        ["another value for every image", "--labels none"],
    ),
}


@pytest.mark.parametrize("case", PARQUET)
def test_a_wrong_parquet_is_one_line(tmp_path: Path, case: str) -> None:
    spoil, typed, words = PARQUET[case]
    mini = made("Hugging Face parquet", tmp_path)
    spoil(mini.source / "data")
    assert_refused(mini.source, tmp_path / "out.h5", *words, **typed)


def test_saved_splits_without_train_are_each_imported_alone(tmp_path: Path) -> None:
    """The words behind "type:" are the command that does it."""
    source = made("Hugging Face `save_to_disk`", tmp_path / "two words").source
    (source / "dataset_dict.json").write_text(json.dumps({"splits": ["test"]}))
    refused = CliRunner().invoke(app, ["import", str(source)])
    assert "expected a train split in" in str(refused.exception)
    typed = shlex.split(str(refused.exception).partition("; type: probekit ")[2])
    assert typed == ["import", str(source / "test")]
    info, _ = take(Path(typed[1]), tmp_path / "out.h5")
    assert {split: found.n for split, found in info.splits.items()} == {"train": N["test"]}


def test_two_configurations_are_not_mixed(tmp_path: Path) -> None:
    mini = made("Hugging Face parquet", tmp_path)
    (mini.source / "b").mkdir()
    (mini.source / "b" / "train-00000-of-00001.parquet").write_bytes(mini.whole.read_bytes())
    assert_refused(mini.source, tmp_path / "out.h5", "expected the files of train in one folder", "name the folder")
    take(mini.source / "data", tmp_path / "out.h5")


def test_one_file_is_imported_alone_and_text_may_be_the_class(tmp_path: Path) -> None:
    mini = made("Hugging Face parquet", tmp_path)
    info, _ = take(mini.whole, tmp_path / "out.h5", labels="site", test_fraction=0.4)
    assert info.classes == ("s3", "s4")
    info, _ = take(mini.whole, tmp_path / "none.h5", labels="none")
    assert info.classes == ()


def test_without_a_schema_of_hugging_face_the_usual_names_do(tmp_path: Path) -> None:
    mini = made("Hugging Face parquet", tmp_path)
    for path in (mini.source / "data").glob("*"):
        rewrite(path, without_names)
    info, _ = take(mini.source, tmp_path / "out.h5")
    assert info.classes == ("0", "1", "2")
    for path in (mini.source / "data").glob("*"):
        rewrite(path, lambda held: held.rename_columns(["image", "kind", "site"]))
    assert_refused(mini.source, tmp_path / "b.h5", "expected one column of labels", "kind, site", "type --labels kind")
    take(mini.source, tmp_path / "b.h5", labels="kind")


def test_images_that_a_column_only_names_are_read_beside_it(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = table("test")
    cells = [{"bytes": None, "path": f"{k}.png"} for k in range(N["test"])]
    for k, image in enumerate(pictures("test")):
        (tmp_path / f"{k}.png").write_bytes(png(image))
    column = pa.array(cells, held.schema.field(0).type)
    pq.write_table(held.set_column(0, held.schema.field(0), column), tmp_path / "a.parquet")
    info, _ = take(tmp_path / "a.parquet", tmp_path / "out.h5")
    np.testing.assert_array_equal(read_split(info.path, "train").images, pictures("test"))
    (tmp_path / "1.png").unlink()
    assert_refused(tmp_path / "a.parquet", tmp_path / "b.h5", "1 broken image", "'1.png'")


def test_a_row_group_with_fewer_rows_than_it_says_is_refused_and_not_read_for_ever(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = steps(1000)[1]
    pq.write_table(pa.table({"image": [b"x"] * rows}), tmp_path / "a.parquet")
    held = Table(tmp_path / "a.parquet")
    held.groups = [2 * rows]
    with pytest.raises(ValueError, match="a row group has fewer rows than it says; fetch it again"):
        _runs([held], "image").row(rows)


def test_a_metadata_table_must_know_every_image(tmp_path: Path) -> None:
    mini = made("Hugging Face imagefolder", tmp_path)
    text = mini.whole.read_text().splitlines()
    mini.whole.write_text("\n".join(text[:-2]))
    assert_refused(mini.source, tmp_path / "out.h5", "expected a row with 'label' for every image", "found none for 2")
    info, _ = take(mini.source, tmp_path / "b.h5", labels="none")
    assert info.classes == ()


def test_a_metadata_table_without_labels_leaves_them_to_the_folders(tmp_path: Path) -> None:
    for k, image in enumerate(pictures("test")):
        path = tmp_path / "set" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    note = "one line\u2028of JSON\x85, as Hugging Face writes what is not ASCII"
    rows = [{"file_name": f"{'ab'[k % 2]}/{k}.png", "text": "xy"[k < 2], "note": note} for k in range(N["test"])]
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert take(tmp_path / "set", tmp_path / "a.h5")[0].classes == ("a", "b")
    info, _ = take(tmp_path / "set", tmp_path / "b.h5", labels="text")
    assert info.classes == ("x", "y")
    assert info.parameters["labels"] == "text"
    assert_refused(tmp_path / "set", tmp_path / "c.h5", "expected --labels with one of text", labels="kind")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    images, objects = pictures("test"), np.array([{"a": 1}] * N["test"], dtype=object)
    np.savez(tmp_path / "a.npz", images=images, labels=objects)
    typed: dict[str, Any] = {"images": "images", "labels": "labels"}
    assert_refused(tmp_path / "a.npz", tmp_path / "out.h5", "pickled objects, which are never loaded", **typed)
    np.savez(tmp_path / "synbols.npz", x=images, y=objects, mask=images)
    assert_refused(tmp_path / "synbols.npz", tmp_path / "out.h5", "pickled objects", labels="char")
    np.savez(tmp_path / "b.npz", images=objects, labels=np.arange(N["test"]) % 2)
    assert_refused(tmp_path / "b.npz", tmp_path / "out.h5", "pickled objects", **typed)


def test_arrays_outside_the_file_are_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = pictures("test")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
        layout = h5py.VirtualLayout(shape=(N["test"], 12, 16, 3), dtype="u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", shape=(N["test"], 12, 16, 3))
        file.create_virtual_dataset("v", layout)
    assert_refused(tmp_path / "a.h5", tmp_path / "out.h5", "found 'x'", images="x", labels="none")
    assert_refused(tmp_path / "a.h5", tmp_path / "out.h5", "spread over other files", images="v", labels="none")


ARRAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "labels short": ({"y": np.arange(4) % 2}, ["for each of 5 images", "[4]"]),
    "four channels": ({"x": np.zeros((5, 12, 16, 4), np.uint8)}, ["[N, H, W, 1 or 3]", "[5, 12, 16, 4]"]),
    "either axis": ({"x": np.zeros((5, 3, 16, 3), np.uint8)}, ["which axis"]),
    "labels of halves": ({"y": np.arange(5) / 2}, ["whole numbers or text", "float"]),
    "several labels": ({"y": np.ones((5, 3), np.uint8)}, ["[5, 3]"]),
    "nothing of the name": ({"z": np.arange(5)}, ["x, z", "'y'"]),
    "zeros and ones": ({"x": np.ones((5, 12, 16), np.uint8), "y": np.arange(5) % 2}, ["--bits 1"]),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_wrong_arrays_are_one_line(tmp_path: Path, case: str) -> None:
    held, words = ARRAYS[case]
    np.savez(tmp_path / "a.npz", **({"x": pictures("test")} | held))
    assert_refused(tmp_path / "a.npz", tmp_path / "out.h5", *words, images="x", labels="y")


def test_one_hot_truth_values_and_floats_are_taken(tmp_path: Path) -> None:
    flags = pictures("test", (12, 16)) > 127
    np.savez(tmp_path / "a.npz", x=flags, y=np.eye(3)[[0, 2, 1, 0, 2]])
    info, _ = take(tmp_path / "a.npz", tmp_path / "out.h5", images="x", labels="y")
    rows = read_split(info.path, "train")
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 2, 1, 0, 2]
    np.testing.assert_array_equal(rows.images, flags * np.uint8(255))


def test_shards_take_classes_of_json_and_refuse_what_is_packed(tmp_path: Path) -> None:
    mini = made("webdataset", tmp_path)
    info, _ = take(mini.whole, tmp_path / "out.h5", labels="site")
    assert info.classes == ("s2", "s3")
    packed = formats.repack(mini.whole, tmp_path / "a.tar.gz", "w:gz")
    assert_refused(packed, tmp_path / "b.h5", "not packed", "gunzip")
    assert_refused(mini.source, tmp_path / "b.h5", "expected --labels with one of cls, site", labels="kind")


def test_shards_and_samples_of_two_splits_may_have_the_same_names(tmp_path: Path) -> None:
    for split in N:
        path = tmp_path / "a" / split / "000.tar"
        path.parent.mkdir(parents=True)
        with tarfile.open(path, "w") as sink:
            for number, data in enumerate(map(png, pictures(split))):
                member = tarfile.TarInfo(f"{number:04}.png")
                member.size = len(data)
                sink.addfile(member, io.BytesIO(data))
    info, _ = take(tmp_path / "a", tmp_path / "out.h5")
    for split in N:
        np.testing.assert_array_equal(read_split(info.path, split).images, pictures(split))


@pytest.mark.parametrize("name", ["Hugging Face parquet", "webdataset"])
def test_tables_and_shards_beside_images_are_left_out_with_a_line(tmp_path: Path, name: str) -> None:
    mini = made(name, tmp_path)
    for k, image in enumerate(pictures("test")):
        path = mini.source / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    info, skipped = take(mini.source, tmp_path / "out.h5", depth=1)
    assert info.classes == ("a", "b")
    assert any(mini.whole.parent.name in item.path or mini.whole.name in item.path for item in skipped)


def test_a_shard_without_an_image_of_a_sample_is_a_broken_image(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for k, image in enumerate(pictures("test")):
            sink.write({"__key__": f"{k}", "cls": k % 2} | ({"jpg": jpeg(image)} if k != 3 else {}))
    assert_refused(tmp_path / "a.tar", tmp_path / "out.h5", "1 broken image", "'a/3'")
    info, skipped = take(tmp_path / "a.tar", tmp_path / "out.h5", skip_broken=True)
    assert (info.splits["train"].n, [item.path for item in skipped]) == (4, ["a/3"])


def jpeg(image: Any) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG")
    return data.getvalue()


def test_rows_are_read_in_order_once_and_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far apart the threads ask, each run is read once; who begins anew reads anew."""
    from probekit.data.importers.rows import Runs

    reads: list[int] = []

    def read(first: int) -> Any:
        for number in range(first, 20):
            reads.append(number)
            yield list(range(number * 5, number * 5 + 5))

    runs = Runs(list(range(0, 101, 5)), read, lambda run: 1)
    order = np.arange(100)
    order[1:] += np.random.default_rng(0).integers(0, 12, 99).clip(max=99 - np.arange(1, 100))
    assert [runs.row(k) for k in order.tolist()] == order.tolist()
    assert reads == list(range(20))
    assert runs.row(2) == 2
    monkeypatch.setattr("probekit.data.importers.rows.KEPT_BYTES", 4)
    small = Runs(list(range(0, 101, 5)), read, lambda run: 1)
    reads.clear()
    assert [small.row(k) for k in range(100)] == list(range(100))
    assert reads == list(range(20))
    assert len(small._kept) == 4
    assert small.row(0) == 0
    assert reads[20:] == [0]
    monkeypatch.setattr("probekit.data.importers.rows.KEPT_BYTES", 100)
    wide = Runs(list(range(0, 101, 5)), read, lambda run: 1)
    for number in (0, 18, 1, 17, 19):  # 18 is kept, and is read again on the way to 19
        assert wide.row(5 * number) == 5 * number
    assert wide._bytes == len(wide._kept) == 20


def test_factors_are_described(tmp_path: Path) -> None:
    mini = made("dSprites", tmp_path)
    info, _ = take(mini.source, tmp_path / "out.h5", labels="scale", test_fraction=0.25)
    assert info.classes == ("0.5", "1")
    about = {f["name"]: f for f in read_info(info.path).factors}
    assert list(about) == ["shape", "scale", "orientation", "posY"]
    assert about["shape"]["values"] == ["square", "ellipse", "heart"]
    assert (about["orientation"]["kind"], about["orientation"]["high"]) == ("circular", 360)
    assert (about["scale"]["low"], about["scale"]["high"]) == (0.5, 1.0)
