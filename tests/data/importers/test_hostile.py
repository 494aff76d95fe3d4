"""What strangers' files do wrong on purpose or by accident: nothing is lost without a word, and each refusal says why.

Alone: pytest tests/data/importers/test_hostile.py
"""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probekit.data.importers import Import
from probekit.data.importers.base import Options, Source, Told
from probekit.data.importers.folder import open_folder
from probekit.data.importers.npz import Row
from probekit.data.importers.shards import below
from tests.data.importers.formats import FORMATS, N, pictures, png, table
from tests.data.importers.test_importers import assert_refused, take

n = N["test"]
LABELS = [0, 1, 0, 1, 0]


def write_tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    """A tar file; text in place of bytes is where a link leads."""
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                shard.addfile(member)
            else:
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    return path


def samples() -> list[tuple[str, bytes | str]]:
    images = list(map(png, pictures("test")))
    return [m for k in range(n) for m in ((f"{k}.png", images[k]), (f"{k}.cls", b"%d" % LABELS[k]))]


def test_a_shard_ends_only_where_zeros_follow(tmp_path: Path) -> None:
    """tarfile itself takes any torn header but the first one for the end."""
    path = write_tar(tmp_path / "a.tar", samples())
    whole = path.read_bytes()
    with tarfile.open(path) as shard:
        last = shard.getmembers()[4].offset
    for torn in (whole[:last], whole[: last + 200], whole[:last] + b"x" * 512 + whole[last + 512 :], whole + whole):
        path.write_bytes(torn)
        assert_refused(path, tmp_path / "out.h5", str(path), "fetch it again")


def test_links_within_shards_are_followed_nowhere_and_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [*samples(), ("../../z.png", "/etc/passwd"), ("../../z.cls", b"1")])
    assert_refused(path, tmp_path / "out.h5", "1 broken image", "'a/../../z'", "only a link")
    info, skipped = take(path, tmp_path / "out.h5", skip_broken=True)
    assert (info.splits["train"].n, len(skipped)) == (n, 1)


def write_parquet(path: Path, columns: dict[str, Any], names: list[str] | None = None) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = table("test").column("image")
    arrays = [held if values is None else pa.array(values) for values in columns.values()]
    about = {"label": {"_type": "ClassLabel", "names": names}, "image": {"_type": "Image"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": about}}).encode()} if names else None
    rows = pa.Table.from_arrays(arrays, names=[name.strip("'") for name in columns])
    pq.write_table(rows.replace_schema_metadata(metadata), path)
    return path


TABLES: dict[str, tuple[dict[str, Any], list[str] | None, list[str]]] = {
    "two columns of one name": ({"image": None, "label": LABELS, "label'": LABELS}, None, ["several called 'label'"]),
    "labels that are floats": ({"image": None, "label": [0.0] * n}, None, ["found double", "type: --labels none"]),
    "another column may be it": (
        {"image": None, "label": [0.0] * n, "a kind": LABELS},
        None,
        ["type: --labels 'a kind'"],
    ),
    "a column with a space": ({"image": None, "a kind": LABELS}, None, ["type --labels 'a kind'"]),
    "two classes of one name": ({"image": None, "label": LABELS}, ["x", "x"], ["distinct classes"]),
    "a class without a name": ({"image": None, "label": LABELS}, ["x", ""], ["distinct classes"]),
    "names of text": ({"image": None, "label": list("abaab")}, ["a", "b"], ["expected numbers", "found text"]),
    "no images": ({"a": LABELS}, None, ["expected a column of images", "found none that can be"]),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_is_not_clear_is_one_line(tmp_path: Path, case: str) -> None:
    columns, names, words = TABLES[case]
    path = write_parquet(tmp_path / "a.parquet", columns, names)
    assert_refused(path, tmp_path / "out.h5", *words)


@pytest.mark.parametrize("name", ["Hugging Face parquet", "webdataset"])
def test_what_lies_beside_is_named(tmp_path: Path, name: str) -> None:
    mini = FORMATS[name].make(tmp_path)
    (mini.whole.parent / "README.md").write_text("about it")
    write_tar(mini.whole.parent / "more.tar.part", samples())
    _, skipped = take(mini.source, tmp_path / "out.h5")
    assert {item.path.rpartition("/")[2] for item in skipped} == {"README.md", "more.tar.part"}


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    mini = FORMATS["Hugging Face parquet"].make(tmp_path)
    (mini.source / "data").rename(tmp_path / "elsewhere")
    (mini.source / "data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(mini.source)
    (tmp_path / "elsewhere" / "here").symlink_to(".")
    info, _ = take(mini.source, tmp_path / "out.h5")
    assert {split: own.n for split, own in info.splits.items()} == N


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scan(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(PermissionError, match="locked"):
        below(tmp_path, (".tar",))


def test_more_rows_than_names_that_fit_in_memory_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:  # of a few bytes on disk
        file.create_dataset("x", (10**11, 8, 8), "u1", chunks=(1, 8, 8))
    typed: dict[str, Any] = {"images": "x", "labels": "none"}
    assert_refused(tmp_path / "a.h5", tmp_path / "out.h5", "fit in memory", "100,000,000,000", **typed)


def test_x_and_y_of_others_are_no_synbols(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=pictures("test"), y=np.array(["a", "b", "a", "b", "a"]))
    assert_refused(tmp_path / "a.npz", tmp_path / "out.h5", "type --images x --labels y")
    info, _ = take(tmp_path / "a.npz", tmp_path / "out.h5", images="x", labels="y")
    assert info.classes == ("a", "b")


def test_a_factor_without_classes_is_no_label_and_lines_on_factors_are_true(tmp_path: Path) -> None:
    mini = FORMATS["Synbols"].make(tmp_path)
    assert_refused(mini.source, tmp_path / "out.h5", "another value for every image", labels="rotation")
    with h5py.File(mini.source, "r+") as file:  # two of one value, and two that are alike in six digits
        rows = [json.loads(text) for text in file["y"][:]]
        for row, value in ((1, 0.0), (3, 0.2000000001)):
            rows[row]["rotation"] = value
        file["y"][:] = list(map(json.dumps, rows))
    told = f"{len(rows) - 1} values for {len(rows)} images"
    assert_refused(mini.source, tmp_path / "out.h5", told, labels="rotation")
    _, skipped = take(mini.source, tmp_path / "out.h5", labels="char")
    why = {item.path: item.reason for item in skipped}
    assert "how an image was drawn" in why["seed"]
    assert "neither a number" in why["background"]


METADATA = {
    "two columns of one name": ("file_name,label,label", "{}.png,a,b", "columns of different names"),
    "another value for every image": ("file_name,label", "{0}.png,{0}", "--labels none"),
}


@pytest.mark.parametrize("case", METADATA)
def test_a_metadata_table_that_is_not_clear_is_one_line(tmp_path: Path, case: str) -> None:
    head, row, words = METADATA[case]
    write_folder(tmp_path / "set", [head, *(row.format(k) for k in range(n))])
    assert_refused(tmp_path / "set", tmp_path / "out.h5", words)


def write_folder(folder: Path, lines: list[str]) -> None:
    folder.mkdir()
    for k, image in enumerate(pictures("test")):
        (folder / f"{k}.png").write_bytes(png(image))
    (folder / "metadata.csv").write_text("\n".join(lines))


def test_rows_of_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", ["file_name,label", *(f"{k}.png,{k % 2}" for k in range(n + 2))])
    source = open_folder(tmp_path / "set", Options())
    assert source is not None
    assert [line for line in source.notes if line.startswith("2 rows of") and f"'{n}.png'" in line]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = FORMATS["webdataset"].make(tmp_path)
    monkeypatch.setattr("probekit.h5.DatasetWriter.append", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    for in_a_shard in (20_000, 5):
        monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", in_a_shard)
        assert_refused(mini.source, tmp_path / "out.h5", "out.h5 cannot be written", "the disk is full")
        assert not list(tmp_path.glob(".out*"))


def test_classes_of_one_name_are_refused_before_the_old_file_is_replaced(tmp_path: Path) -> None:
    rows = [Row(f"{k}", k % 2, pictures("test"), k, "") for k in range(n)]
    told = Told(lambda done, total: None)
    run = Import(Options(), tmp_path / "out.h5", skip_broken=False, overwrite=True, compression="none", told=told)
    run.write(Source("set", ("a", "b"), {"train": rows}))
    old = (tmp_path / "out.h5").read_bytes()
    with pytest.raises(ValueError, match="different names in set, found 'a' twice"):
        run.write(Source("set", ("a", "a"), {"train": rows}))
    assert (tmp_path / "out.h5").read_bytes() == old
