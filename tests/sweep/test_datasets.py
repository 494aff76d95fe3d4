"""Where a sweep's datasets come from: files that are used as they are, folders, official sets; what a missing one says.

Alone: pytest tests/sweep/test_datasets.py
"""

import contextlib
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.data.generate import generate, generate_shards
from probekit.h5 import read_info
from probekit.sweep.cost import shape_of
from probekit.sweep.datasets import Dataset, build, describe, find
from probekit.sweep.definition import load, parse
from probekit.sweep.folder import SweepFolder
from probekit.sweep.measures import Measure
from probekit.sweep.plan import definition

HEAD = """# A file of one's own.
seeds = [0]
set = ["model.width=2", "model.depth=2"]
[[rows]]
method = "simclr"
[[datasets]]
name = "mine"
"""


def dataset(text: str) -> Dataset:
    return parse("small", HEAD + text, where="small.toml").datasets[0]


def typed(*words: str, cwd: Path) -> Result:
    with contextlib.chdir(cwd):
        return CliRunner(env={"COLUMNS": "400"}).invoke(app, list(words))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of eight images each."""
    for name, grey in (("dark", 20), ("light", 220)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for n in range(8):
            Image.fromarray(np.full((10, 12), grey + n, np.uint8)).save(tmp_path / "pictures" / name / f"{n}.png")
    return tmp_path / "pictures"


def test_a_folder_is_imported_with_the_options_of_the_command(folder: Path, tmp_path: Path) -> None:
    asked = f'folder = "{folder}"\nsize = 8\nseed = 3\noptions = {{ test_fraction = 0.25, resize = "squash" }}\n'
    made = dataset(asked)
    assert find(made, None, tmp_path) is None
    info = build(made, None, tmp_path / "a.h5")
    words = ["import", str(folder), "--size", "8", "--seed", "3", "--test-fraction", "0.25", "--resize", "squash"]
    assert typed(*words, "--out", "b.h5", cwd=tmp_path).exit_code == 0
    assert info.content_hash == read_info(tmp_path / "b.h5").content_hash
    found = describe(made, None, info, tmp_path / "a.h5", Measure())
    assert (found.n_train, found.n_test) == (12, 4)
    with pytest.raises(ValueError, match="expected --resize crop or squash"):
        dataset(asked.replace("squash", "stretch"))


def test_a_file_is_used_as_it_is(folder: Path, tmp_path: Path) -> None:
    assert typed("import", str(folder), "--size", "8", "--out", "mine.h5", cwd=tmp_path).exit_code == 0
    made = dataset(f'file = "{tmp_path / "mine.h5"}"\n')
    before = (tmp_path / "mine.h5").read_bytes()
    path = find(made, None, tmp_path)
    info = build(made, path, tmp_path / "never.h5")
    assert (info.path, (tmp_path / "never.h5").exists()) == (tmp_path / "mine.h5", False)
    with pytest.raises(ValueError, match="expected labels of test in dataset mine, found train with labels"):
        describe(made, path, info, info.path, Measure())
    found = describe(made, path, info, info.path, load("conrec-figure6").measures["aptos2019"])
    assert (found.path, found.n_train, found.n_test) == (str(tmp_path / "mine.h5"), 16, 0)
    assert (tmp_path / "mine.h5").read_bytes() == before
    with pytest.raises(ValueError, match=r"expected the file of dataset mine at nowhere.h5, found none"):
        find(dataset('file = "nowhere.h5"\n'), None, tmp_path)


@pytest.mark.parametrize("text", ['file = "a.h5"', 'folder = "a"', 'import = "cub200"\nroot = "a"', 'npz = "a.npz"'])
def test_what_sweep_json_keeps_is_what_decides_the_runs(text: str) -> None:
    """What is measured may change; all else is compared when a sweep goes on."""
    plain, measured = (
        definition(parse("small", HEAD + text + more, where="small.toml")) for more in ("", "\nmeasure.knn = true")
    )
    assert plain == measured
    other = definition(parse("small", HEAD + text + '\npretrain = ["train.epochs=2"]', where="small.toml"))
    assert plain != other


def test_a_file_inside_the_sweeps_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """--overwrite would remove it."""
    (tmp_path / "sweeps" / "small").mkdir(parents=True)
    assert typed("import", str(folder), "--out", "sweeps/small/mine.h5", cwd=tmp_path).exit_code == 0
    (tmp_path / "small.toml").write_text(HEAD + 'file = "sweeps/small/mine.h5"\n')
    done = typed("sweep", "small.toml", "--overwrite", cwd=tmp_path)
    assert done.exit_code != 0
    assert (tmp_path / "sweeps" / "small" / "mine.h5").exists()


def test_an_official_set_that_is_not_there_says_what_to_type(tmp_path: Path) -> None:
    made = load("xcorr-table1").datasets[1]
    with pytest.raises(ValueError, match="found none; type, with the folder that has train/") as caught:
        find(made, None, tmp_path)
    command = str(caught.value).rpartition(": ")[2]
    assert command == "probekit import imagenet ROOT --n-classes 50 --out data/imagenet50.h5"
    (tmp_path / "ROOT").mkdir()
    done = typed(*shlex.split(command)[1:], cwd=tmp_path)
    assert "No such option" not in done.output, "what it says to type is a command"


def test_an_official_file_of_other_choices_is_refused(tmp_path: Path) -> None:
    assert typed("import", "digits", "--out", "flowers102.h5", cwd=tmp_path).exit_code == 0
    made = load("conrec-table2").datasets[1]
    path = find(made, None, tmp_path)
    with pytest.raises(ValueError, match="with source flowers102, found digits; type: probekit import flowers102 ROOT"):
        build(made, path, tmp_path / "never.h5")


@pytest.mark.parametrize("name", ["conrec-figure6", "xcorr-table1"])
def test_a_dry_run_needs_no_data(name: str, tmp_path: Path) -> None:
    """Rows are built, missing files are named with what to type, and every command is there."""
    done = typed("sweep", name, "--dry-run", "--seeds", "0", cwd=tmp_path)
    assert done.exit_code == 0, done.output or done.exception
    sweep = load(name)
    lines = [line for line in done.stdout.splitlines() if line.startswith("probekit ")]
    assert len(lines) == 2 + len(sweep.datasets) * len(sweep.rows)
    missing = [made for made in sweep.datasets if made.official]
    assert done.output.count("not there yet: ") == len(missing)
    assert not list(tmp_path.iterdir())


def test_a_dataset_of_a_sweep_that_was_killed_is_made_anew_be_it_a_file_or_shards(tmp_path: Path) -> None:
    at = SweepFolder(tmp_path / "s")
    asked = parse("small", HEAD + 'generator = "rect-tri"\nn = 8\nn_test = 4\nsize = 16\n', where="small.toml")
    generate_shards("rect-tri", 2, out=at.data("mine"), n=8, n_test=4, size=16)
    made = at.add({"data": {}}, asked, {"mine": None})
    assert at.data("mine").is_file()
    assert made["data"]["mine"]["n_train"] == 8


def test_a_dry_run_refuses_a_file_without_images_to_train_on(tmp_path: Path) -> None:
    generate("rect-tri", out=tmp_path / "test.h5", n=0, n_test=4, size=16)
    (tmp_path / "small.toml").write_text(HEAD + 'file = "test.h5"\n')
    done = typed("sweep", "small.toml", "--dry-run", cwd=tmp_path)
    assert isinstance(done.exception, ValueError), done.exception
    assert str(done.exception) == "expected a train split in test.h5, of dataset mine, found test"


def test_the_hours_of_shards_that_a_pattern_means_are_known(tmp_path: Path) -> None:
    generate_shards("rect-tri", 2, out=tmp_path / "parts", n=8, n_test=4, size=16)
    pattern = str(tmp_path / "parts" / "*.h5")
    found = shape_of(dataset(f'file = "{pattern}"\n'), pattern)
    assert found is not None
    assert (found.n, found.size) == (8, (16, 16))
