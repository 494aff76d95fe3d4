"""The run folder: whole writes, refusal to overwrite, the newest run, metrics that a kill cut short.

Alone: pytest tests/test_run.py
"""

import json
import os
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.run import check_name, create_run, find_runs, free_name, how_far, open_run, to_json, write_json
from tests.datasets import RUN


def test_existing_folders_are_not_overwritten(tmp_path: Path) -> None:
    run = create_run(tmp_path / "a", RUN, overwrite=False)
    with pytest.raises(ValueError, match="type --resume to go on with it, --overwrite to replace it"):
        create_run(tmp_path / "a", RUN, overwrite=False)
    run.metrics.write_text("x")
    again = create_run(tmp_path / "a", RUN | {"state": "new"}, overwrite=True)
    assert again.read()["state"] == "new"
    assert not again.metrics.exists()


def test_overwrite_never_removes_something_other_than_a_run(tmp_path: Path) -> None:
    precious = tmp_path / "a" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(ValueError, match="not touched"):
        create_run(tmp_path / "a", RUN, overwrite=True)
    assert precious.exists()


def test_how_far_names_the_epochs_that_are_missing() -> None:
    content = {"config": {"train": {"epochs": 45}}}
    assert how_far({**content, "state": "interrupted"}, 3) == "epoch 3 of 45, interrupted"
    assert how_far({**content, "state": "finished"}, 3) == "epoch 3 of 45"
    assert how_far({**content, "state": "finished"}, 45) == "epoch 45"
    assert how_far({"config": {}, "state": "imported"}, 0) == "imported"


def test_newest_run_and_names(tmp_path: Path) -> None:
    for age, name in enumerate(["old", "middle", "new"]):
        run = create_run(tmp_path / name, RUN, overwrite=False)
        os.utime(run.json, (1000 + age, 1000 + age))
    assert [run.name for run in find_runs(tmp_path)] == ["old", "middle", "new"]
    assert open_run(None, tmp_path).name == "new"
    assert open_run("middle", tmp_path).name == "middle"
    assert open_run(str(tmp_path / "old"), Path("elsewhere")).name == "old"
    assert free_name("old", tmp_path) == "old-2"
    assert free_name("fresh", tmp_path) == "fresh"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"schema": "other/1"}', b"\xff\xfe"])
def test_broken_run_json_is_one_line(tmp_path: Path, content: str | bytes | None) -> None:
    (tmp_path / "a").mkdir()
    if content is not None:
        (tmp_path / "a" / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match="expected") as caught:
        open_run("a", tmp_path)
    assert "\n" not in str(caught.value)


def test_no_run_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="type: probekit pretrain conrec"):
        open_run(None, tmp_path)


def test_metrics_survive_a_cut_line(tmp_path: Path) -> None:
    run = create_run(tmp_path / "a", RUN, overwrite=False)
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "loss": 0.1 * epoch})
    with run.metrics.open("a") as file:
        file.write('{"epoch": 4, "lo')
    assert [line["epoch"] for line in run.read_metrics()] == [1, 2, 3]
    run.keep_metrics(2)
    assert [line["epoch"] for line in run.read_metrics()] == [1, 2]
    assert run.metrics.read_text().count("\n") == 2


def test_of_damaged_metrics_numbers_alone_are_read_and_nothing_is_lost(tmp_path: Path) -> None:
    run = create_run(tmp_path / "a", RUN, overwrite=False)
    lines = [
        '{"epoch": 1, "test": {"a": 1}, "val": 0.5, "loss": NaN}',
        '{"step": 3}',
        '{"epoch": "2"}',
        '{"epoch": true}',
    ]
    run.metrics.write_text("\n".join([*lines, f'{{"epoch": {10**30}}}', "[1]", '{"epoch": 2, "test": "x"}']))
    assert run.read_metrics() == [{"epoch": 1, "val": 0.5}, {"epoch": 2}]
    run.keep_metrics(1)
    assert run.metrics.read_text() == lines[0] + "\n"


@given(
    st.recursive(
        st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_keeps_what_it_holds(content: object) -> None:
    assert json.loads(to_json({"x": content})) == {"x": content}


def test_json_has_lists_of_numbers_on_one_line() -> None:
    text = to_json({"a": [1, -2.5, 1e-9], "b": ["[\n1,\n2]", [[1, 2], [3, 4]]]})
    assert "[ 1, -2.5, 1e-09 ]" in text
    assert "[ 3, 4 ]" in text
    assert json.loads(text)["b"][0] == "[\n1,\n2]"


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        *["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a\0b", "a\nb", "\x1b[2J", "a:b", "end.", "x" * 151],
        *["\u00e9" * 76, "\udcff", "CON", "nul.txt", " ", "?"],
    ],
)
def test_names_that_no_file_system_or_no_command_takes(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected --name of a folder") as caught:
        check_name(name, tmp_path)
    (line,) = str(caught.value).splitlines()
    (named,) = shlex.split(line.rpartition("type: --name ")[2])
    check_name(named, tmp_path)
    assert len(os.fsencode(free_name(name, tmp_path))) <= 150


@given(st.text())
def test_a_free_name_is_one_that_a_folder_can_have(name: str) -> None:
    free = free_name(name, Path("runs"))
    check_name(free, Path("runs"))
    with TemporaryDirectory() as folder:
        (Path(folder) / free).mkdir()


@pytest.mark.parametrize("name", ["a", "simclr-rect-tri-2", "na\u00efve run (3)", "x" * 150, "a.b", "50%"])
def test_names_that_stand(name: str, tmp_path: Path) -> None:
    check_name(name, tmp_path)
    assert free_name(name, tmp_path) == name
