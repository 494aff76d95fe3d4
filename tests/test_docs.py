"""What README and docs name exists: commands go through the parser; options, settings and files are there.

Alone: pytest tests/test_docs.py
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise

import pytest
import typer

from probekit.cli import app
from tests.test_hints import FILLED, HOLE, ROOT, leaves, refusal, settings

PAGES = [
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "data", ROOT / "benchmarks")
    for path in sorted(folder.glob("*.md"))
    if path.name not in ("CHANGELOG.md", "log.md")  # they tell of what was
]
# A reader's file; a field of a batch of views; what an export writes.
MADE_UP = {"mine.py", "views.labels", "model.onnx", "model.safetensors"}


FENCED = re.compile(r"^```.*?^```$", re.M | re.S)


@cache
def lines(page: str) -> tuple[str, ...]:
    """The lines of blocks of code, without their comments; of what a terminal shows, what was typed."""
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / page).read_text())
    found = [line for line in FENCED.sub("", text).splitlines() if line.startswith("    ")]
    for block in FENCED.findall(text):
        inner = block.splitlines()[1:-1]
        found += [line[2:] for line in inner if line.startswith("$ ")] if block.startswith("```console") else inner
    return tuple(re.split(r"\s+#", line.strip())[0] for line in found)


@cache
def pieces(page: str) -> tuple[str, ...]:
    """All that is set as code: spans, and the lines of blocks."""
    text = FENCED.sub("", (ROOT / page).read_text())
    prose = " ".join("" if line.startswith("    ") else line.strip() for line in text.splitlines())
    return (*re.findall(r"`([^`]+)`", prose), *lines(page))


def commands(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (part.strip() for part in re.split(r";|\s{3}", text) if re.match(r"\s*probekit [a-z]", part))


def unparsed(command: str) -> str | None:
    """Why the parser refuses a command, or None; dots and brackets stand for more of the same, or for nothing."""
    found = None
    for dots in ("", HOLE):
        words = [FILLED.get(word, word) for word in shlex.split(re.sub(r"\[.*?\]|\.\.\.", dots, command))[1:]]
        name = next((name for name in leaves() if words[: len(name.split())] == name.split()), None)
        if name is None:
            return "there is no such command"
        keys = [word.partition("=")[0] for option, word in pairwise(words) if option == "--set"]
        unknown = [key for key in keys if key not in settings()]
        found = f"no setting {unknown[0]}" if unknown else refusal(leaves()[name], words[len(name.split()) :])
        if found is None:
            return None
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str) -> None:
    assert [f"{command}: {unparsed(command)}" for command in commands(pieces(page)) if unparsed(command)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_option_exists(page: str) -> None:
    every = [typer.main.get_command(app), *leaves().values()]
    known = {option for leaf in every for p in leaf.params for option in (*p.opts, *p.secondary_opts)}
    ours = [piece for piece in pieces(page) if not re.match(r"srun|torchrun|mpirun|sbatch|scancel|squeue", piece)]
    found = {word for piece in ours for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", piece)}
    assert sorted(found - known - {"--help"}) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_exists(page: str) -> None:
    sections = "|".join(sorted({key.partition(".")[0] for key in settings() if "." in key}))
    named = rf"(?:--set )?((?:{sections})(?:\.[a-z]\w*)+)(?:=\S*)?"
    found = {match[1] for match in (re.fullmatch(named, piece) for piece in pieces(page)) if match}
    files = {key for key in found if key.endswith((".py", ".csv", ".json", ".toml", ".safetensors", ".pth", ".pkl"))}
    assert (
        sorted(key for key in found - files - MADE_UP if not any(f"{s}.".startswith(f"{key}.") for s in settings()))
        == []
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_file_exists(page: str) -> None:
    """Paths of the tree from its root, from probekit/ or beside the page, and names of modules."""
    tops = "probekit|generators|tests|docs|benchmarks|data/sample"
    found = {path for piece in pieces(page) for path in re.findall(rf"(?<![\w./~-])(?:{tops})/[\w./*-]*\w", piece)}
    found |= set(re.findall(r"\]\(([\w./-]+\.(?:md|png))\)", (ROOT / page).read_text()))
    found |= {piece for piece in pieces(page) if re.fullmatch(r"[\w/]+\.py", piece)}
    patterns = {path: re.sub("NAME|METHOD|BRANCH|PRESET", "*", path) for path in found - MADE_UP}
    bases = (ROOT, ROOT / "probekit", (ROOT / page).parent)
    there = {path for path, pattern in patterns.items() if any([*base.glob(pattern)] for base in bases)}
    there |= {path for path in patterns if "/" not in path and [*(ROOT / "probekit").rglob(path)]}
    assert sorted(patterns.keys() - there) == []


def test_architecture_says_where_everything_is() -> None:
    tree = (ROOT / "docs/architecture.md").read_text().partition("## Where things are")[2].partition("\n## ")[0]
    parts = {
        path.name + "/" * path.is_dir() for path in (ROOT / "probekit").iterdir() if path.name[:2] not in ("__", "py")
    }
    assert sorted(part for part in parts if part not in tree) == []
    named = set(re.findall(r"[\w/*]+\.(?:py|md|toml|json)\b", tree))
    folders = [ROOT / name for name in ("generators", "probekit", "docs")]
    assert len(named) > 50
    assert sorted(name for name in named if not any([*folder.rglob(name)] for folder in folders)) == []


def test_what_is_wrong_is_found() -> None:
    assert unparsed("probekit pretain conrec") == "there is no such command"
    assert "No such option" in (unparsed("probekit probe RUN --kn") or "")
    assert unparsed("probekit pretrain simclr --set model.steam=small") == "no setting model.steam"
    assert unparsed("probekit probe --fractions ...") is None
    assert unparsed("probekit report [RUN ...]") is None
    assert len([command for page in PAGES for command in commands(pieces(page))]) > 100


def test_every_file_of_make_test_fast_is_there() -> None:
    found = re.search(r"(?s)FAST := \$\(addprefix tests/,(.*?)\)", (ROOT / "Makefile").read_text())
    assert found is not None
    names = found[1].replace("\\", " ").split()
    assert len(names) > 20
    assert [name for name in names if not (ROOT / "tests" / name).is_file()] == []
