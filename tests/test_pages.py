"""README and docs are run: their code, the commands whose output they show, and, small, every other that needs no data.

Alone: pytest tests/test_pages.py. Whether each command parses: tests/test_docs.py.
"""

import contextlib
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probekit.exams import examine
from probekit.registry import MAPS
from tests.datasets import small_shapes
from tests.pages import WALKS, walk, words
from tests.test_docs import PAGES, commands, lines
from tests.test_hints import ROOT
from tests.typed import typed

LONGEST = 120
CODE = ("README.md", "docs/python.md", "docs/quickstart.md", "docs/tutorial-encoder.md")
# What makes each command take a second; of an option that is there already the last counts.
SMALL = {
    "gen": "--n 60 --n-test 60 --size 32 --overwrite",  # enough for the 50 shards of the pages
    "import": "--overwrite",
    "certify": "--n 80",
    "pretrain": "--epochs 1 --batch-size 8 --set model.width=4 --set model.depth=2 --data data/rect-tri.h5",
    "audit": "--n 4 --data data/rect-tri.h5",
    "draw": "--n 12",
    "heatmap": "--n 4 --perturb 0 --data data/rect-tri.h5",
    "exam": "--items landolt --parts acuity --layers last --size 64",
    "probe": "--data data/rect-tri.h5",
    "show": "",
    "compare": "",
    "report": "",
    "export": "",
    "export-embeddings": "",
    "list": "",
    "runs": "",
    "help": "",
    "sweep": "",
}
# Real data, others' weights or packages, a network of another kind, a cluster, or hours.
PARSED_ALONE = re.compile(
    r"--encoder|--weights|--init-from|timm:|wandb|tensorboard|onnx|torchvision|--resume|--published|--selftest|umap|paper"
    r"|--preset full|@branch|--pool|--layer|my-vit|my-lcr|mine|encoder-shapes|seed0|--sgd|--cv|gen vernier|--slurm"
    r"|data/(photos|masked|digits)|--list|-published|audit all|--as matches|sweep (?!table1 --dry-run)|--gpus|ordinal"
    r"|import (?!digits|photos/|scans/)|--masks|--shard 3/64"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, copies of one, and data files and folders of images of the names that pages use."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("hard", "landolt", "shapes", "rect-tri"):
        generator = "landolt" if name == "landolt" else "rect-tri"
        small_shapes(folder / f"data/{name}.h5", generator=generator)
    draw = np.random.default_rng(0)
    for name in ("photos/a", "photos/b", "scans/a"):
        (folder / name).mkdir(parents=True)
        for k in range(10):
            Image.fromarray(draw.integers(0, 256, (40, 30), np.uint8)).save(folder / name / f"{k}.png")
    made = ("pretrain", "conrec", *shlex.split(SMALL["pretrain"]), "--name", "RUN")
    assert typed(*made, cwd=folder).returncode == 0
    for name in ("demo-conrec", "conrec-rect-tri", "simclr-rect-tri", "simclr-landolt", "unet-demo-quick", "m"):
        shutil.copytree(folder / "runs/RUN", folder / "runs" / name)
    return folder


def to_run() -> dict[str, list[str]]:
    """Every command of blocks that can be run small, by its name."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        for command in commands(lines(page)):
            name = command.split()[1]
            if (
                name in SMALL
                and not PARSED_ALONE.search(command)
                and not re.search(r"\.\.|\[|[A-Z]{4}|RUN RUN", command)
            ):
                found.setdefault(name, []).append(command)
    return {name: sorted(set(typed)) for name, typed in found.items()}


@pytest.mark.usefixtures("plain_pictures", "few_strengths", "few_baselines")
@pytest.mark.parametrize("name", to_run())
def test_every_command_that_needs_no_data_runs_small(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=4))
    failed = []
    for place, command in enumerate(to_run()[name]):
        more = f"{SMALL[name]} --name {name}{place}" if name == "pretrain" else SMALL[name]
        done = typed(*shlex.split(f"{command} {more}")[1:], cwd=home)
        failed += [f"{command} {more}: {done.stderr}"] * (done.returncode != 0)
    assert failed == []


def test_many_commands_are_run() -> None:
    assert sum(map(len, to_run().values())) > 25


@pytest.mark.parametrize("page", CODE)
def test_its_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first line to the last."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=6))  # seconds, not minutes
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)


@pytest.mark.usefixtures("plain_pictures", "few_strengths")
@pytest.mark.parametrize("pages", WALKS)
def test_what_a_page_shows_is_what_is_printed(
    pages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words: no numbers, tables and verdicts."""
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=4))
    for page, command, shown, found in walk(pages, tmp_path):
        missing = set(words(shown)) - set(words(found))
        assert not missing, f"{page}, {command}; type: python -m tests.pages"


@pytest.mark.usefixtures("plain_pictures", "few_strengths", "few_baselines")
def test_the_commands_for_an_own_encoder_name_the_run_that_the_first_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=4))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    page = (ROOT / "docs/tutorial-encoder.md").read_text()
    part = page.partition("## From the command line")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```$", part, re.M | re.S)
    with contextlib.chdir(tmp_path):
        exec(block, {})
    small = {"gen": "--n 24 --n-test 12 --size 32", "heatmap": "--n 4 --perturb 0", "exam": "--size 64"}
    typed_there = [line.strip() for line in part.splitlines() if line.startswith("    probekit ")]
    assert [command.split()[1] for command in typed_there] == ["gen", "probe", "heatmap", "exam", "report"]
    for command in typed_there:
        done = typed(*shlex.split(f"{command} {small.get(command.split()[1], '')}")[1:], cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", "docs/log.md"])
def test_no_line_is_longer_than_a_window(page: str) -> None:
    """But for rows of tables, which cannot be broken."""
    rows = enumerate((ROOT / page).read_text().splitlines(), 1)
    assert [f"{page}:{n}" for n, line in rows if len(line) > LONGEST and not line.startswith("|")] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 95


def test_every_map_is_in_the_gallery() -> None:
    page = (ROOT / "docs/gallery.md").read_text()
    assert [name for name in MAPS if f"`{name.lstrip('-')}`" not in page] == []
