"""Whole writes: a full disk, an error, a kill; and readers that take no odd file for one of ours.

Alone: pytest tests/test_files.py
"""

import ast
import errno
import os
import platform
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probekit.data.generate import generate
from probekit.files import (
    read_json,
    read_text,
    read_toml,
    refuse_links_out,
    replaced,
    replaced_file,
    told_if_full,
    write_text,
)
from probekit.restore.export import _write
from probekit.run import create_run


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_names_the_file_and_the_remedy_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.json cannot be written: the disk is full, .* free some space") as error:
        write_text(path, "new")
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_a_full_disk_is_seen_behind_another_error(tmp_path: Path) -> None:
    """torch raises a RuntimeError of its own while it handles the one that tells."""

    def write() -> None:
        with told_if_full(tmp_path / "last.pt"):
            try:
                full()
            finally:
                raise RuntimeError("unexpected pos 704 vs 598")

    with pytest.raises(OSError, match="the disk is full"):
        write()


def test_two_processes_that_write_one_file_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replaced(tmp_path / "a") as mine:
        mine.write_bytes(b"mine")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with replaced(tmp_path / "a") as theirs:
            theirs.write_bytes(b"theirs")
        assert (tmp_path / "a").read_bytes() == b"theirs"
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"mine")]


def test_the_next_writer_removes_what_killed_ones_left(tmp_path: Path) -> None:
    """Files, and the folders of runs; those of a living process, of another machine, or of another name stay."""
    here, dead, alive = platform.node()[:20], 999_999_999, 1  # Linux has at most 2**22
    stay = [f".a.{here}-{alive}.tmp", f".b.{here}-{dead}.tmp", f".a.elsewhere-{dead}.tmp", f".a.{here}-{dead}.tmp.txt"]
    for name in (*stay, f".a.{here}-{dead}.tmp", f".a.{here}-{os.getpid()}.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / f".run.{here}-{dead}.new" / "results").mkdir(parents=True)
    write_text(tmp_path / "a", "whole")
    create_run(tmp_path / "run", {}, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*stay, "a", "run"])


def dataset(path: Path) -> None:
    generate("rect-tri", out=path, n=64, n_test=64, size=64)


def export(path: Path) -> None:
    _write(path, {"train/embeddings": np.random.default_rng(0).random((100, 40))}, "{}")


RENAMES = re.compile(r"os\.replace\(|\.rename\(|\.replace\([^,()]+\)")  # of text there are two arguments
WRITERS: dict[str, Callable[[Path], None]] = {
    "data.h5": dataset,
    "out.npz": export,
    "out.h5": export,
    "text.json": lambda path: write_text(path, "x" * 30_000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_whatever_is_written_is_on_the_disk_before_and_its_name_after(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    note_order(done, monkeypatch)
    WRITERS[name](tmp_path / name)
    assert done == ["file", "rename", "folder"]


def test_no_name_is_changed_without_putting_it_on_the_disk() -> None:
    """In the function that renames."""
    root = Path(__file__).parent.parent / "probekit"
    lacking = []
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and RENAMES.search(text := ast.unparse(node)):
                lacking += [f"{file.relative_to(root)} {node.name}"] * ("sync_folder(" not in text)
    assert not lacking


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_under_whatever_is_written(name: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=rf"{name} cannot be written: the disk is full, .*; free some space$"):
            WRITERS[name](tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_the_writing_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write() -> None:
        with replaced_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a", b"old")]


def test_file_and_folder_are_on_the_disk_before_and_after_the_renaming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    note_order(done, monkeypatch)
    with replaced(tmp_path / "a") as temporary:
        temporary.write_bytes(b"new")
    assert done == ["file", "rename", "folder"]


def note_order(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has each fsync and each renaming of a file noted in `done`."""
    fsync, rename = os.fsync, os.replace

    def noted(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(path: Path, to: Path) -> None:
        done.append("rename")
        rename(path, to)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "expected JSON in "),
        (b"\xff\xfe", "expected text in "),
        (b"[1]", "expected a JSON object in "),
        (b'{"a": NaN}', "NaN, which is no JSON"),
        (b'{"a": ' * 100_000, "nested beyond reason"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected JSON in "),
        (b'{"a": 1', "expected JSON in "),
    ],
)
def test_odd_json_is_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told) as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_odd_toml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    for content, told in {"a = ": "expected TOML in ", f"a = {'[' * 100_000}": "nested beyond reason"}.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=told):
            read_toml(path)


def test_what_is_no_file_of_sane_size_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "vast").open("wb") as file:
        file.truncate(2**40)
    for name, told in {"pipe": "found something else", "vast": "at most 256 MiB"}.items():
        with pytest.raises(ValueError, match=told):
            read_text(tmp_path / name)
    with pytest.raises(ValueError, match="found something else"):
        read_text(tmp_path)


@pytest.mark.parametrize("target", ["../../../out", "../../../nowhere", "../../../run-2", "/proc/self/environ", "/"])
def test_a_link_out_of_a_folder_is_named(tmp_path: Path, target: str) -> None:
    for name in ("out", "run-2", "run/a/.b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run" / "a" / ".b" / "link").symlink_to(target)
    with pytest.raises(ValueError, match=r"found that a/.b/link is a link to /.*; put that itself in") as error:
        refuse_links_out(tmp_path / "run")
    assert "\n" not in str(error.value)


def test_links_within_a_folder_and_to_it_stand(tmp_path: Path) -> None:
    (tmp_path / "disk" / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "disk" / "run" / "checkpoints" / "best.pt").symlink_to("last.pt")
    (tmp_path / "disk" / "run" / "here").symlink_to("checkpoints")
    (tmp_path / "disk" / "run" / "there").symlink_to(tmp_path / "runs" / "r" / "checkpoints")
    (tmp_path / "disk" / "run" / "loop").symlink_to("loop")
    (tmp_path / "runs").symlink_to("disk")
    (tmp_path / "disk" / "r").symlink_to("run")
    refuse_links_out(tmp_path / "runs" / "r")
    refuse_links_out(tmp_path / "nowhere")
