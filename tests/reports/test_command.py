"""`probekit report` as a user types it: where it writes, what it refuses.

Alone: pytest tests/reports/test_command.py
"""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from probekit.reports import SCHEMA
from probekit.reports.page import run_report
from probekit.results import joined_name
from probekit.run import Run
from tests.reports.folders import make_run
from tests.typed import typed

pytestmark = pytest.mark.usefixtures("plain_pictures", "few_strengths")


def report(
    folder: Path, *names: str, out: Path | None = None, form: str = "html", monkeypatch: pytest.MonkeyPatch
) -> tuple[Path | str, str]:
    """What is returned, and what is said."""
    monkeypatch.chdir(folder)
    said = io.StringIO()
    console = Console(file=said, width=500)
    text = run_report(names, out=out, form=form, runs=Path("runs"), reports=Path("reports"), console=console)
    return text, said.getvalue()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_run(tmp_path / "runs", "a", full=False)
    make_run(tmp_path / "runs", "b", noise=0.5)
    os.utime(tmp_path / "runs/a/run.json", (0, 0))
    return tmp_path


def test_the_newest_run_is_reported_beside_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, said = report(home, monkeypatch=monkeypatch)
    assert text == Path("runs/b/report.html")
    assert "run: runs/b (the newest)" in said
    assert "report runs/b/report.html" in said
    page = (home / "runs/b/report.html").read_text()
    assert page.count("<h2") == 1
    assert f'content="{SCHEMA}"' in page[:4096]


def test_the_newest_prefers_what_has_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "runs/b/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "interrupted"}))
    _, said = report(home, monkeypatch=monkeypatch)
    assert "run: runs/a (the newest that has finished; passed over: b, interrupted)" in said


def test_several_runs_share_a_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = report(home, "a", "runs/b", monkeypatch=monkeypatch)
    assert "report reports/a+b.html" in said
    assert "next: probekit probe a" in said
    assert (home / "reports/a+b.html").exists()


def test_a_report_replaces_its_own_and_nothing_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in ("html", "md", "json"):
        out = home / f"r.{form}"
        for _ in range(2):
            _, said = report(home, "b", out=out, form=form, monkeypatch=monkeypatch)
            assert ("browser" in said) == (form == "html")
        assert SCHEMA in out.read_text()[:4096]
        out.write_text("mine")
        with pytest.raises(ValueError, match="no report of probekit's"):
            report(home, "b", out=out, form=form, monkeypatch=monkeypatch)
        assert out.read_text() == "mine"
    with pytest.raises(ValueError, match="found the folder"):
        report(home, "b", out=home / "runs", monkeypatch=monkeypatch)
    assert not list(home.glob(".*"))


def test_mistakes_are_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for names, form, told in (
        (["c"], "html", "unknown run 'c'"),
        (["b", "runs/b"], "html", "b twice"),
        (["b"], "pdf", "unknown format 'pdf'"),
    ):
        with pytest.raises(ValueError, match=told) as error:
            report(home, *names, form=form, monkeypatch=monkeypatch)
        assert "\n" not in str(error.value)


def test_no_run_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="type: probekit pretrain"):
        report(tmp_path, monkeypatch=monkeypatch)


def test_a_path_that_is_no_utf8_is_no_obstacle(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"caf\xe9")
    make_run(home / "runs", name)
    for form in ("html", "md", "json"):
        report(home, name, out=home / f"r.{form}", form=form, monkeypatch=monkeypatch)
    assert b"caf\\udce9" in (home / "r.html").read_bytes()


def test_json_and_markdown_go_to_stdout(home: Path) -> None:
    done = typed("report", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content.keys() == {"schema", "command", "runs", "comparison"}
    assert "(the newest)" in done.stderr
    done = typed("report", "a", "b", "--format", "md", cwd=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"<!-- {SCHEMA} -->")
    done = typed("report", "a", "--json", "--out", "a.json", cwd=home)
    assert (home / "a.json").read_text() == done.stdout
    assert json.loads(done.stdout)["runs"][0]["name"] == "a"
    for form in ("md", "html"):
        done = typed("report", "a", "--format", form, "--json", "--out", "a.page", cwd=home)
        assert done.returncode != 0
        assert f"expected one of --format {form} and --json, found both; leave one out" in done.stderr
        assert not (home / "a.page").exists()


def test_reports_of_other_runs_have_other_names() -> None:
    """A file about many runs is named after the first ones: what is about others takes no place of it."""
    long = [Run(Path(f"runs/table1-rect-tri-conrec-attention-seed{seed}")) for seed in range(5)]
    assert joined_name(long[:2]) == "+".join(run.name for run in long[:2])
    names = {joined_name([*long[:3], last]) for last in long[3:]}
    assert len(names) == 2
    assert all(name.startswith(f"{long[0].name}+3-more-") for name in names)


def test_an_error_is_a_line_and_exit_code_1(home: Path) -> None:
    done = typed("report", "nowhere", cwd=home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: unknown run 'nowhere'; known: a, b")
    assert len(done.stderr.splitlines()) == 1
