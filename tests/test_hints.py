"""What our texts say to type, as they stand in the source: every hint goes through the command line's own parser.

A hint is a command or options behind "type" or "next:" in a string of the product, up to punctuation or a word of
prose; the holes of a string are filled. Commands that stand alone in a string, "probekit show ...", are hints, too.

Alone: pytest tests/test_hints.py
"""

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from generators import GENERATORS, Scenes
from probekit.cli import app
from probekit.config import SECTIONS
from probekit.data.generate import generate
from probekit.models.encoder import load_encoder
from probekit.output.hints import after_data, after_drawing, after_pretraining
from probekit.registry import BRANCHES, METHODS, get
from probekit.restore.outside import OWN
from probekit.run import create_run, open_run
from probekit.settings import method_options
from tests.datasets import RUN, small_shapes

ROOT = Path(__file__).parent.parent
# What the parser raises: all its errors have one base.
REFUSED: tuple[type[BaseException], ...] = (typer.BadParameter.__mro__[1], typer.Exit)
WRITTEN = {".py", ".md", ".toml", ".txt", ".html", ".js", ""}
FOREIGN = re.compile(r"\b(pip|pipx|uv|poetry|conda)\b[^\n]*\b(install|add)\b[^\n.]*[\s'\"]probekit(?!-vision)\b")

HOLE = "16"  # in place of {...}: a number, a name and a path alike
FITS = re.compile(f"' does not exist|'{HOLE}' is not one of")  # a reader's file; what is filled in where it is said
FILLED = {"METHOD": "conrec", "GENERATOR": "rect-tri"}
HINT = re.compile(r"(?<!of )\b[Tt]ype:? |\bnext: |^(?=probekit [a-z])")
ENDS = re.compile(
    r"[;,)]+(?:\s+|$)|\s\(|\.(?:\s|$)|\s\s+|:\s|\s(?:and|for|here|if|instead|is|makes|or|to|where|with)(?:\s|$)"
)
TYPED = re.compile(r"--\w|probekit |pip |make |git lfs ")
REMEDY = (
    "; a hint reads 'type: COMMAND' or 'type: --option VALUE' with prose behind a comma, and the parser must take it: "
    "mend the text, or if it is prose, say it without the word type"
)
OPEN = re.compile(r"(\btype:? |\bnext: |\bprobekit [a-z])[^;:,(]*$")  # within what is to be typed
THEIRS = re.compile(r"\bpath\b|\brun\.argument|\bout\b|\bchosen\b|\broot\b")
# Where only some commands can come to say what a folder or a file says.
SAID_BY: dict[str, tuple[str, ...]] = {
    "generators": ("gen",),
    "probekit/data/generate.py": ("gen",),
    "probekit/data/importers": ("import",),
    "probekit/methods": ("pretrain",),
    "probekit/branches": ("pretrain",),
    "probekit/heatmaps": ("heatmap",),
    "probekit/sweep": ("sweep",),
    "probekit/restore/export.py": ("export-embeddings",),
    "probekit/heatmaps/run.py": ("heatmap",),
    "probekit/data/importers/__init__.py": ("import",),
    "probekit/train/start.py": ("pretrain",),
    "probekit/sweep/start.py": ("sweep",),
}


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a file with its line, holes filled, but for docstrings."""
    tree, passed = ast.parse(path.read_text()), set[int]()
    for node in ast.walk(tree):  # parents first
        if id(node) in passed:
            continue
        if isinstance(node, ast.Expr):
            passed.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def hints(text: str) -> list[str]:
    """What a string says to type; the first piece behind "type" even if it is nothing that can be typed."""
    found = []
    for start in HINT.finditer(text):
        first, *more = (piece.removeprefix("or ").strip() for piece in ENDS.split(text[start.end() :]))
        keep = start[0].lower().startswith("type") or TYPED.match(first)
        found += [first] * bool(keep) + [piece for piece in more if TYPED.match(piece)]
    return [hint for hint in found if hint != HOLE]  # the whole of it is made elsewhere


def all_hints() -> Iterator[tuple[str, int, str]]:
    """File, line and hint."""
    for folder in ("probekit", "generators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, text in strings(path):
                yield from ((path.relative_to(ROOT).as_posix(), line, hint) for hint in hints(text))


@cache
def leaves() -> dict[str, Any]:
    """Every command by its words: "gen", "import"."""

    def walk(command: Any, words: Sequence[str]) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield " ".join(words), command
            return
        for name, inner in command.commands.items():
            yield from walk(inner, [*words, name])

    return dict(walk(typer.main.get_command(app), []))


@cache
def settings() -> set[str]:
    found = {f"{section}.{name}" for section, kind in SECTIONS.items() for name in kind.__dataclass_fields__}
    found |= {f"method.{key}" for name in METHODS for key in method_options(get(METHODS, "method", name))}
    found |= {f"branch.{n}.{key}" for n in BRANCHES for key in method_options(get(BRANCHES, "branch", n))}
    found |= {f"model.{name}" for name in OWN}
    found |= {parameter.name for parameter in Scenes.parameters}
    return found | {parameter.name for kind in GENERATORS.values() for parameter in kind.parameters}


def reason(error: BaseException) -> str:
    return str(getattr(error, "message", "")) or str(error) or type(error).__name__


def refusal(command: Any, words: list[str]) -> str | None:
    """Why the parser refuses words, or None. Arguments may be missing: who reads a hint has typed them before."""
    needed = sum(p.param_type_name == "argument" and p.required for p in command.params)
    for filler in range(needed + 1):
        try:
            command.make_context(command.name, [*words, *[HOLE] * filler])
        except REFUSED as error:
            why = reason(error)
        else:
            return None
        if FITS.search(why):
            return None
    return why


def trouble(where: str, hint: str) -> str | None:
    """What is wrong with a hint of a file, or None."""
    words = [FILLED.get(word, word) for word in shlex.split(hint)]
    if hint.startswith("pip uninstall "):
        return None if words[2:] == ["probekit", "probekit-vision"] else "neither our distribution nor its rival"
    if hint.startswith("pip "):
        wanted, listed = [re.sub(r"[<>=\d.]+$", "", word) for word in words[2:]], (ROOT / "pyproject.toml").read_text()
        return None if wanted and all(f'"{name}>' in listed for name in wanted) else "no package of ours"
    if hint.startswith("make "):
        return None if re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M) else "no such target"
    if hint.startswith("git lfs "):
        return None
    for key in (word.partition("=")[0] for option, word in pairwise(words) if option == "--set"):
        if HOLE not in key and key not in settings():
            return f"there is no setting {key}"
    if ".." in hint:
        return "dots cannot be typed: a word in capitals stands for what the reader has"
    if words[0] == "probekit":
        name = next((name for name in leaves() if words[1:][: len(name.split())] == name.split()), None)
        if name is None:
            return "there is no such command"
        rest = words[1 + len(name.split()) :]
        try:
            leaves()[name].make_context(name, [*rest])
        except REFUSED as error:
            return None if "--help" in rest or FITS.search(reason(error)) else reason(error)
        return None
    if not words[0].startswith("--"):
        return "neither a command nor an option"
    by = next((by for start, by in SAID_BY.items() if where.startswith(start)), tuple(leaves()))
    hole = re.compile(re.escape(words[0]).replace(HOLE, r"[\w-]+"))
    options = {option for name in by for p in leaves()[name].params for option in p.opts if hole.fullmatch(option)}
    refused = [refusal(leaves()[name], [option, *words[1:]]) for name in by for option in options or {words[0]}]
    known = [why for why in refused if why is None or "No such option" not in why]
    return next((why for why in (None, *known, *refused) if why in refused), None)


def test_what_it_says_to_type_can_be_typed() -> None:
    found = list(all_hints())
    assert len(found) > 100
    wrong = [f"{hint!r} in {where}:{line}: {why}" for where, line, hint in found if (why := trouble(where, hint))]
    assert not wrong, f"{wrong}{REMEDY}"


@pytest.mark.parametrize(
    ("hint", "says"),
    [
        ("probekit pretain conrec", "no such command"),
        ("probekit import --size 64", "Missing"),
        ("--resume --nme 16", "No such option"),
        ("--name", "requires an argument"),
        ("--epochs none", "valid integer"),
        ("--set model.steam=small", "no setting model.steam"),
        ("imagenet", "neither a command nor an option"),
        ("make tea", "no such target"),
        ("pip install 'probekit[timm]'", "no package of ours"),
    ],
)
def test_what_cannot_be_typed_is_found(hint: str, says: str) -> None:
    assert says in (trouble("probekit/train/loop.py", hint) or "")


def test_an_option_of_another_command_is_found() -> None:
    assert trouble("probekit/data/importers/base.py", "--max-gb 8") is None
    assert "No such option" in (trouble("generators/base.py", "--max-gb 8") or "")


def test_hints_end_where_prose_begins() -> None:
    assert hints("x exists; type --resume to go on with it, --overwrite to replace it, or --name NAME for another") == [
        "--resume",
        "--overwrite",
        "--name NAME",
    ]
    assert hints("next: probekit gen rect-tri   or   probekit pretrain conrec") == [
        "probekit gen rect-tri",
        "probekit pretrain conrec",
    ]
    assert hints("expected x of type int, found 3") == []


def bare(path: Path) -> Iterator[str]:
    """The holes of hints that stand for somebody's path or run, and that no shell, or no command, would take as it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
                continue
            hole = ast.unparse(part)
            if OPEN.search(before) and ("run.name" in hole or (THEIRS.search(hole) and "quote(" not in hole)):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {hole}"
            before += HOLE


def test_names_and_paths_of_hints_are_one_word_of_a_shell() -> None:
    files = [file for file in sorted((ROOT / "probekit").rglob("*.py")) if file.name != "demo.py"]  # its names are ours
    assert [hole for file in files for hole in bare(file)] == []


@pytest.mark.parametrize("folder", ["runs", "other", "other/runs"])
@pytest.mark.parametrize("name", ["two words", "$HOME", "it's", "~", "a;b", "*"])
def test_a_hint_of_an_odd_name_or_place_says_it(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is not in runs/ is named by its path: one of the same name there is another."""
    monkeypatch.chdir(tmp_path)
    info = small_shapes(Path(f"{name}.h5"), n=4, n_test=4, size=16)
    for place in ("runs", folder):
        create_run(Path(place, name), RUN | {"state": "imported"}, overwrite=True)
    run = open_run(name if folder == "runs" else f"{folder}/{name}", Path("runs"))
    meant = name if folder == "runs" else f"{folder}/{name}"
    for said, last in {
        after_data(info): str(info.path),
        after_pretraining(run, info).partition("   or   ")[0]: meant,
        after_drawing(run, info): str(info.path),
        refused(load_encoder, run.path): meant,
    }.items():
        assert shlex.split(said.rpartition("type: ")[2])[-1] == last
    assert open_run(meant, Path("runs")).path == run.path


@pytest.mark.parametrize(("n_test", "told"), [(0, False), (2, True)])
def test_detect_is_told_of_only_where_there_is_something_to_score_it_on(
    n_test: int, told: bool, tmp_path: Path
) -> None:
    info = generate("scenes", out=tmp_path / "a.h5", n=2, n_test=n_test, size=16, seed=1)
    assert ("probekit detect" in after_data(info)) is told


def refused(call: Any, run: Any) -> str:
    with pytest.raises(ValueError, match="type: ") as caught:
        call(run)
    return str(caught.value)


def test_nothing_says_to_install_what_others_own() -> None:
    """On the public index the name probekit belongs to an unrelated project; a folder, `pip install .`, does not."""
    folders = ["probekit", "generators", "tests", "benchmarks", "docs"]  # not what is built beside them
    files = [*ROOT.iterdir(), *(inner for folder in folders for inner in (ROOT / folder).rglob("*"))]
    texts = {path: path.read_text() for path in files if path.is_file() and path.suffix in WRITTEN}
    assert len(texts) > 100
    assert [str(path) for path, text in texts.items() if path != Path(__file__) and FOREIGN.search(text)] == []
    assert FOREIGN.search("type: pip install 'probekit[timm]'")
    assert not FOREIGN.search("To install instead: `pip install .`")
    assert not FOREIGN.search("pip install 'probekit-vision[opencv]'")


@pytest.mark.parametrize(
    ("settings", "pool"),
    [
        (None, ""),
        ({"head": "maxout", "train_pool": "encoder"}, " --pool branch"),
        ({"head": "maxout", "train_pool": "branch"}, " --pool branch"),
        ({"head": "linear", "train_pool": "encoder"}, ""),
        ({"head": "linear", "train_pool": "bilinear"}, " --pool bilinear"),
        ({"head": "maxout", "train_pool": "bilinear"}, " --pool bilinear"),
    ],
)
def test_a_variant_of_lcr_is_probed_as_its_paper_does(
    settings: dict[str, Any] | None, pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/branches.md."""
    monkeypatch.chdir(tmp_path)
    info = small_shapes(Path("d.h5"), n=4, n_test=4, size=16)
    branches = {} if settings is None else {"lcr": settings}
    about: Any = RUN["config"]
    content = RUN | {"config": about | {"branches": branches}}
    run = create_run(Path("runs/a"), content, overwrite=False)
    assert after_pretraining(run, info).startswith(f"next: probekit probe a{pool}   or   ")
