"""The commands, in the order in which they are typed, and what is kept of what they print and write."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import typer.main
from matplotlib.figure import Figure
from PIL import Image

from tests.forked import forked_children
from tests.plain import save_empty
from tests.typed import typed

SMALL = ("--epochs", "2", "--batch-size", "16", "--precision", "fp32", "--set", "model.width=4")
SWEEP = """# Two rows.
seeds = [0]
set = ["model.width=2", "train.batch_size=8", "train.precision=fp32"]
pairs = [["conrec", "simclr"]]
[[datasets]]
name = "rt"
generator = "rect-tri"
n = 16
n_test = 8
size = 16
[[rows]]
method = "simclr"
[[rows]]
method = "conrec"
"""
COMMANDS = (
    ("gen", "rect-tri", "--n", "64", "--n-test", "32", "--size", "32", "--pairs"),
    ("import", "pictures", "--size", "16"),
    ("show", "data/rect-tri.h5", "--verify"),
    ("pretrain", "conrec", "--data", "data/rect-tri.h5", *SMALL, "--set", "train.keep_every=1"),
    ("pretrain", "moco-v2", "--branch", "lcr", "--data", "data/rect-tri.h5", *SMALL),
    ("pretrain", "simclr", "--data", "data/pictures.h5", *SMALL),
    ("show", "conrec-rect-tri"),
    (
        *("probe", "conrec-rect-tri", "--knn", "--retrieval", "--fractions", "50,100", "--draws", "2", "--cv", "2"),
        *("--repeats", "2", "--multilabel", "--all-checkpoints"),
    ),
    ("probe", "conrec-rect-tri", "--protocol", "fixed"),
    ("probe", "conrec-rect-tri", "--sgd", "conrec", "--epochs", "1"),
    (
        *("probe", "conrec-rect-tri", "--fractions", "50,100", "--draws", "2", "--fractions-of", "cv", "--cv", "2"),
        *("--metric", "kappa", "--repeats", "1", "--no-baselines"),
    ),
    ("probe", "moco-v2-lcr-rect-tri", "--pool", "branch", "--knn"),
    ("probe", "moco-v2-lcr-rect-tri"),
    ("probe", "simclr-pictures", "--cv", "2", "--metric", "kappa", "--repeats", "1", "--json"),
    ("heatmap", "conrec-rect-tri", "--n", "8", "--perturb", "2", "--maps", "all", "--window", "16", "--stride", "16"),
    ("exam", "conrec-rect-tri", "--size", "64", "--items", "bind", "--parts", "wholes", "--layers", "embedding"),
    ("compare", "conrec-rect-tri", "moco-v2-lcr-rect-tri"),
    ("export-embeddings", "conrec-rect-tri"),
    ("report", "conrec-rect-tri"),
    ("report", "conrec-rect-tri", "--format", "md", "--out", "report.md"),
    ("report", "conrec-rect-tri", "moco-v2-lcr-rect-tri", "--json"),
    ("sweep", "small.toml", "--epochs", "1", "--preset", "quick", "--jobs", "1"),
    ("runs",),
    ("list",),
)
HELP: tuple[str, ...] = (
    "gen",
    "import",
    "split",
    "show",
    "certify",
    "pretrain",
    "sweep",
    "probe",
    "heatmap",
    "exam",
    "audit",
    "compare",
    "export-embeddings",
)
HELP += ("report", "demo", "list", "runs", "help")
TIMED = re.compile(
    r"(seconds?|_s|time|started|finished|created|when|date|speed|images_per_second|memory|peak|version|commit|sha256"
    r"|hash)$"
)
INTERVAL = re.compile(r"ci(?:\.[\d.]+)?$")  # null where its resamples are alike, which may differ on another machine
TIMES = (
    (re.compile(r"Usage: .*?probekit"), "Usage: probekit"),  # as the process was started
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[+-]\d\d:?\d\d|Z)?)?"), "DATE"),
    (re.compile(r"\b\d[\d,]*(?:\.\d+)? images/s"), "N images/s"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|s|min|h|MiB|GiB|MB|GB|KB|kB)\b"), "SIZE"),
    (re.compile(r"\b(?:about )?\d+:\d\d(?::\d\d)?\b"), "SIZE"),
    (re.compile(r"(?<![.\w])(?=\d*[a-f])[0-9a-f]{8,64}\b\+?"), "HASH"),
    (re.compile(r"tfevents\S+"), "tfevents"),
    (re.compile(r"(?m)^epoch (?!(\d+)\.0/\1 ).*\n"), ""),  # but the last: one every ten seconds
)


def walk(folder: Path) -> dict[str, str]:
    """Types every command in `folder`, an empty one, and returns what is kept of it, by name of the kept file."""
    _pictures(folder / "pictures")
    (folder / "small.toml").write_text(SWEEP)
    torch.set_num_threads(1)
    printed = []
    # tests/conftest.py keeps one command for all tests, and some of them ask it for help without its settings.
    anew = getattr(typer.main.get_command, "__wrapped__", typer.main.get_command)
    with ExitStack() as stack:
        stack.enter_context(forked_children())
        stack.enter_context(patch.object(typer.main, "get_command", anew))
        stack.enter_context(patch.object(Figure, "savefig", save_empty))
        for command in COMMANDS:
            done = typed(*command, cwd=folder)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            out = _shape("stdout", [json.loads(done.stdout)]) if "--json" in command else done.stdout
            printed.append(f"$ probekit {' '.join(command)}\n{done.stderr}{out}")
        helps = [f"$ probekit {name} --help\n{typed(name, '--help', cwd=folder).stdout}" for name in HELP]
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = {"printed": "\n".join(printed), "help": "\n".join(helps)}
    kept["files"] = "".join(f"{path.relative_to(folder).as_posix()}\n" for path in found)
    kept["json"] = "\n".join(_file(path, folder) for path in found if path.suffix in (".json", ".jsonl"))
    kept["md"] = "\n".join(path.read_text() for path in found if path.suffix == ".md")
    kept["html"] = "\n".join(_text(path.read_text()) for path in found if path.suffix == ".html")
    return {name: _timeless(text.replace(str(folder), "HOME")) for name, text in kept.items()}


def masked(name: str, text: str) -> str:
    """What is the same on every machine: the words, without numbers, verdicts, and how wide they were printed.

    Of the rows of tables in pages there are the names: which cells are empty hangs on numbers. Tables of a terminal,
    whose columns are as wide as their numbers, are left out.
    """
    if name == "printed":
        text = re.sub(r"(?m)^ (?:[^ \n]| {2,}).*\n", "", text)
    text = re.sub(r"(?m)^(\| [^|\n]*\|)(.*)$(?!\n\|-)", lambda row: f"{row[1]} {row[2].count('|')} cells", text)
    text = re.sub(
        r"(?m)^(<tr[^>\n]*><td[^>\n]*>.*?</td>)(.*)</tr>$", lambda row: f"{row[1]} {row[2].count('<td')} cells", text
    )
    text = re.sub(
        r"(On the same test images the encoder is) (?:not told apart|above|below).*?( \(docs/)", r"\1 ...\2", text
    )
    text = re.sub(r"the highest baseline, [^,\n]+,", "the highest baseline, ...,", text)
    text = re.sub(r"\b(best (?:map|baseline) )[^\n]*?(?=<|$)", r"\1...", text, flags=re.MULTILINE)
    text = re.sub(r"(?m)(ci(?:\.[\d.]+)?): (?:null|\[).*$", r"\1: INTERVAL", text)
    text = re.sub(r"(?<![\w.])[-+±<>≤≥\[(]*\d[\d,.]*(?:e[-+]?\d+)?[\])%,]*(?!\w)", "", text)
    text = re.sub(r"\d+", "#", text)  # of names
    text = re.sub(r"\bthreads\b", "thread", text)  # as many as the machine has
    text = re.sub(r"not told apart(?: from)?|above|below", "VERDICT", text)
    text = re.sub(r"([─━═-]){2,}|(?<!\S)-(?!\S)", r"\1", text)
    text = re.sub(r"[ \t]+", " ", text)
    lines = [line.strip().replace(" </td>", "</td>") for line in text.splitlines()]
    return "".join(f"{line}\n" for line, before in zip(lines, ["", *lines], strict=False) if line and line != before)


def _pictures(folder: Path) -> None:
    """Two classes of coloured noise, dark and bright."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 96)):
        (folder / name).mkdir(parents=True)
        for index in range(24):
            pixels = rng.integers(low, low + 160, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def _file(path: Path, folder: Path) -> str:
    rows = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return _shape(path.relative_to(folder).as_posix(), [json.loads(row) for row in rows])


def _shape(name: str, rows: list[Any]) -> str:
    """Every key once, with the texts and numbers that stand there; times, versions and commits left out."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        for key, value in _leaves(row, ""):
            lines.setdefault(key, []).append(value)
    return "\n".join([name, *(f"  {key}: {', '.join(dict.fromkeys(values))}" for key, values in lines.items())])


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if TIMED.search(key):
        return
    if INTERVAL.search(key) and (value is None or isinstance(value, list)):
        yield key, json.dumps(value)
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{key}[]")
        if not value:
            yield key, "[]"
    else:
        yield key, json.dumps(value, ensure_ascii=False)


def _text(page: str) -> str:
    """A page without charts, pictures, styles and scripts."""
    page = re.sub(r"(?s)<(svg|style|script)\b.*?</\1>", r"<\1/>", page)
    page = re.sub(r' (data-value|style)="[^"]*"', "", page)
    return re.sub(r"data:[^\"')]+", "DATA", page)


def _timeless(text: str) -> str:
    for pattern, name in TIMES:
        text = pattern.sub(name, text)
    return text
