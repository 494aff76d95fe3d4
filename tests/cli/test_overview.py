"""`runs`, `list`, `help`, and what every command has: -q, examples, completion, a mistake in one line.

Alone: pytest tests/cli/test_overview.py
"""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from probekit.cli.catalogue import KINDS
from probekit.cli.overview import runs_in
from probekit.cli.pages import glossary, meant, pages
from probekit.cli.shared import datasets_like, runs_like, shown_like
from probekit.run import Run, write_json
from tests.reports.folders import make_run
from tests.test_hints import leaves, refusal
from tests.typed import typed

ROOT = Path(__file__).parent.parent.parent
NO_QUIET = {"runs", "list", "help"}  # a table is all that they print; the first two have -q for names alone
NO_JSON = {"help"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three runs, the probed one the oldest, one interrupted after an epoch, one unprobed; and two damaged folders."""
    make_run(tmp_path / "runs", "probed", epochs=5)
    make_run(tmp_path / "runs", "stopped", full=False)
    make_run(tmp_path / "runs", "monitored", epochs=4)
    (Run(tmp_path / "runs/monitored").results / "linear-tuned-last.json").unlink()
    stopped = Run(tmp_path / "runs/stopped")
    stopped.update(state="interrupted")
    stopped.append_metrics({"epoch": 1, "loss": 2.0})
    for age, name in enumerate(("monitored", "stopped", "probed")):
        os.utime(tmp_path / "runs" / name / "run.json", (10_000 - 100 * age,) * 2)
    (tmp_path / "runs/torn").mkdir()
    (tmp_path / "runs/torn/run.json").write_text("{")
    (tmp_path / "runs/empty").mkdir()
    return tmp_path


def test_runs_are_listed_newest_first_with_what_was_measured(home: Path) -> None:
    done = typed("runs", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["runs"]
    assert [entry["name"] for entry in found] == ["monitored", "stopped", "probed", "torn", "empty"]
    monitored, stopped, probed, *damaged = found
    expected = json.loads((home / "runs/probed/results/linear-tuned-last.json").read_text())["rows"][0]["accuracy"]
    assert (probed["accuracy"], probed["accuracy_of"]) == (expected, "linear probe")
    assert (monitored["accuracy"], monitored["accuracy_of"]) == (pytest.approx(0.3 + 0.1 * 3), "monitor on test")
    assert (stopped["accuracy"], stopped["epoch"], stopped["state"]) == (None, 1, "interrupted")
    config = json.loads((home / "runs/probed/run.json").read_text())["config"]
    assert probed["method"] == "+".join((config["method"], *config.get("branches", ())))
    assert probed["age"] - monitored["age"] == 200
    assert [("torn" in damaged[0]["problem"]), ("no run.json" in damaged[1]["problem"])] == [True, True]


def test_runs_for_readers_are_a_table_and_a_line_for_each_damaged_folder(home: Path) -> None:
    done = typed("runs", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in os.listdir(home / "runs")] == [
        "monitored",
        "stopped",
        "probed",
    ]
    assert sum(line.startswith("left out: ") for line in lines) == 2
    assert lines[-1] == "next: probekit report monitored"
    assert typed("runs", "-q", cwd=home).stdout.split() == ["monitored", "stopped", "probed"]


def test_a_probe_of_weights_before_the_last_epoch_is_no_accuracy_of_the_run(home: Path) -> None:
    run = Run(home / "runs/probed")
    run.append_metrics({"epoch": 6, "test": 0.125})
    (entry,) = (entry for entry in runs_in(home / "runs") if entry["name"] == "probed")
    assert (entry["accuracy"], entry["accuracy_of"]) == (0.125, "monitor on test")


@pytest.mark.parametrize(("monitor", "found"), [("kappa", (None, None)), ("knn", (0.125, "monitor on test"))])
def test_a_monitors_kappa_is_no_accuracy(home: Path, monitor: str, found: tuple[float | None, str | None]) -> None:
    run = Run(home / "runs/monitored")
    config = run.read()["config"]
    run.update(config=config | {"train": config["train"] | {"monitor": monitor}})
    run.append_metrics({"epoch": 5, "test": 0.125})
    (entry,) = (entry for entry in runs_in(home / "runs") if entry["name"] == "monitored")
    assert (entry["accuracy"], entry["accuracy_of"]) == found


@pytest.mark.parametrize(
    "wrong", [{"rows": []}, {"rows": [{"kind": "encoder", "accuracy": "much"}]}, {"checkpoint": None}, {"rows": 3}]
)
def test_a_result_that_is_no_result_is_passed_over(home: Path, wrong: dict[str, Any]) -> None:
    path = home / "runs/probed/results/linear-tuned-last.json"
    write_json(path, json.loads(path.read_text()) | wrong)
    entry = next(entry for entry in runs_in(home / "runs") if entry["name"] == "probed")
    assert entry["accuracy_of"] == "monitor on test"


def test_without_a_run_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = typed("runs", cwd=tmp_path)
    assert done.stdout == "no runs in runs; next: probekit pretrain conrec\n"
    assert json.loads(typed("runs", "--json", cwd=tmp_path).stdout) == {"runs": []}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_alone_with_its_entries(tmp_path: Path, kind: str) -> None:
    entries = json.loads(typed("list", kind, "--json", cwd=tmp_path).stdout)
    assert entries.keys() == {kind}
    assert all({"name", "about"} <= entry.keys() for entry in entries[kind])
    done = typed("list", kind, cwd=tmp_path)
    names = [entry["name"] for entry in entries[kind]]
    assert names
    assert not [name for name in names if name not in done.stdout]
    assert typed("list", kind, "-q", cwd=tmp_path).stdout.split() == names


def test_without_a_kind_the_names_of_all_fit_a_screen_or_two(tmp_path: Path) -> None:
    listed = typed("list", cwd=tmp_path).stdout
    assert len(listed.splitlines()) < 50
    named = " ".join(listed.split())
    assert not [name for name in typed("list", "-q", cwd=tmp_path).stdout.split() if f" {name}" not in named]


def test_what_all_generators_take_is_listed_once(tmp_path: Path) -> None:
    listed = typed("list", "generators", cwd=tmp_path).stdout
    assert listed.count("    blur_sd ") == 1
    assert listed.count("    rotation ") == 4, "two published recipes turn by whole degrees, landolt by few"
    assert "  parameters, for --set NAME=VALUE, beside those of all generators, but rotation, " in listed


def test_every_word_of_the_glossary_is_known_in_order() -> None:
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("- ")]) == len(glossary()) == 24
    assert list(glossary()) == sorted(glossary(), key=str.lower)
    assert not [word for word, meaning in glossary().items() if not meaning.endswith(".") or "\n" in meaning]


@pytest.mark.parametrize(
    ("typed_word", "entry"),
    [
        ("relevance mass", "relevance mass"),
        ("mass", "relevance mass"),
        ("lcr", "LCR"),
        ("fixed", "tuned and fixed protocol"),
        ("baselines", "baseline"),
        ("cross correlation branch", "cross-correlation branch"),
        ("evidense", None),
    ],
)
def test_a_word_is_found_as_one_would_type_it(tmp_path: Path, typed_word: str, entry: str | None) -> None:
    assert meant(typed_word) == entry
    done = typed("help", *typed_word.split(), cwd=tmp_path)
    if entry is None:
        assert (done.returncode, done.stdout) == (1, "")
        assert "did you mean 'evidence'?" in done.stderr
    else:
        assert done.stdout == f"{entry}: {glossary()[entry]}\n"


def test_help_of_a_command_is_its_own_and_names_its_page(tmp_path: Path) -> None:
    assert typed("help", "runs", cwd=tmp_path).stdout == typed("runs", "--help", cwd=tmp_path).stdout
    of_exam = typed("exam", "--help", cwd=tmp_path).stdout
    assert typed("help", "exam", cwd=tmp_path).stdout == f"{of_exam}its page: probekit help exam.md\n"


def test_every_page_is_printed_by_its_name(tmp_path: Path) -> None:
    """Each begins with its title, and all its words are there, in whatever lines."""
    listed = typed("help", cwd=tmp_path).stdout
    for name, path in pages().items():
        text = path.read_text()
        assert re.search(rf"(?m)^  {name}\.md +{re.escape(text.splitlines()[0].removeprefix('# '))}$", listed)
    done = typed("help", "docs/faq.md", cwd=tmp_path)
    assert done.stdout == typed("help", "faq", cwd=tmp_path).stdout == typed("help", "FAQ.md", cwd=tmp_path).stdout
    plain = set(re.findall(r"[a-z]{4,}", (ROOT / "docs/faq.md").read_text()))
    assert plain - set(re.findall(r"[a-z]{4,}", done.stdout)) == set()


@pytest.mark.parametrize("name", leaves())
def test_every_command_has_a_group_examples_that_parse_quiet_and_json(name: str) -> None:
    command = leaves()[name]
    assert command.rich_help_panel
    examples = command.epilog.splitlines()
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[:2] == ["probekit", name]
        assert refusal(command, words[2:]) is None, example
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("-q" in options) == (name != "help")
    assert ("--json" in options) == (name not in NO_JSON)


@pytest.mark.parametrize("name", leaves())
def test_help_texts_are_sentences(name: str) -> None:
    command = leaves()[name]
    texts = [command.help, *(parameter.help for parameter in command.params)]
    assert not [text for text in texts if not re.match(r"[A-Z`]|[\w-]+(, [\w-]+)*( or [\w-]+)?[:.,]", text or "")]
    assert not [text for text in texts if text.startswith("Of ") or not text.endswith((".", "..."))]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("probe", ("[default: 5; x>=1]", "[default: linear]", "For --encoder: change one setting")),
        ("heatmap", ("[default: black]", "[default: 200; x>=1]", "epoch-NNNN")),
    ],
)
def test_defaults_of_measurements_are_plain_values(name: str, said: tuple[str, ...], tmp_path: Path) -> None:
    text = " ".join(typed(name, "--help", cwd=tmp_path).stdout.split())
    assert "default: (" not in text
    assert [part for part in said if part not in text] == []


def test_quiet_prints_nothing_but_errors(tmp_path: Path) -> None:
    done = typed("gen", "rect-tri", "--n", "4", "--n-test", "0", "--size", "16", "-q", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "wrote" in typed("gen", "circ-sq", "--n", "4", "--n-test", "0", "--size", "16", cwd=tmp_path).stdout
    done = typed("gen", "rect-tri", "--n", "4", "-q", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")


def test_quiet_and_json_are_one_object_alone(tmp_path: Path) -> None:
    done = typed("gen", "rect-tri", "--n", "4", "--n-test", "2", "--size", "16", "-q", "--json", cwd=tmp_path)
    assert done.stderr == ""
    made = json.loads(done.stdout)
    assert (made["path"], made["splits"]) == ("data/rect-tri.h5", {"train": 4, "test": 2})


def test_what_a_shell_offers(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (home / "data").mkdir()
    for name in ("data/rect-tri.h5", "data/circ-sq.h5", "data/notes.txt", "else[where].h5"):
        (home / name).touch()
    assert [name for name in runs_like("") if name != "torn"] == ["monitored", "stopped", "probed"]
    assert runs_like("pro") == ["probed"]
    assert datasets_like("data/") == ["data/circ-sq.h5", "data/rect-tri.h5"]
    assert datasets_like("else[") == ["else[where].h5"]
    assert shown_like("pro") == ["probed"]


def test_the_shell_is_answered_through_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PROBEKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "probekit probe mon")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert typed(cwd=home).stdout.split() == ["monitored"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["prob"], "no such command 'prob'; did you mean 'probe'?"),
        (["probe", "--kn"], "no such option: --kn (Possible options: --json, --knn)"),
        (["gen", "--compression", "gz"], "invalid value for '--compression': 'gz' is not one of 'none', 'lzf', 'gzip'"),
        (["import"], "missing argument 'source'"),
    ],
)
def test_what_is_not_understood_is_one_line(tmp_path: Path, words: list[str], line: str) -> None:
    done = typed(*words, cwd=tmp_path)
    where = "probekit --help" if words == ["prob"] else f"probekit {words[0]} --help"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {line}; type: {where}\n")


def test_nothing_typed_is_the_help(tmp_path: Path) -> None:
    done = typed(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == typed("--help", cwd=tmp_path).stdout
    groups = re.findall(r"^(\w[\w ]*):$", done.stdout, re.M)
    assert groups == ["Options", "Data", "Training", "Measuring", "Finding your way"]
    assert re.findall(r"^  ([a-z][a-z-]+)  ", done.stdout, re.M) == list(leaves())


def test_help_is_in_groups_with_arguments_first_and_examples_last(tmp_path: Path) -> None:
    shown = typed("pretrain", "--help", cwd=tmp_path).stdout
    groups = re.findall(r"^(\w[\w ]*):$", shown, re.M)
    assert groups == ["Arguments", "Options", "Settings", "Output", "Examples"]
    assert "--preset <paper|quick>" in shown
    assert shown.endswith("".join(f"  {line}\n" for line in leaves()["pretrain"].epilog.splitlines()))
