"""The whole exam on a small network: what is written, kept, drawn and told."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from probekit.cli import app
from probekit.exams import conflict, draw, examine, run
from probekit.exams.chart import draw_exam
from probekit.exams.compared import Examined, differences, differences_table
from probekit.exams.items import ITEMS
from probekit.exams.layers import Reader
from probekit.exams.measurement import Exam
from probekit.exams.trials import Sets, Trial, kept
from probekit.files import read_json
from probekit.measurement import read_result
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import html, markdown
from probekit.restore.outside import Outside
from probekit.run import Run
from probekit.sweep.measures import find_result
from probekit.weights import LAST
from tests.typed import typed

UNET = Outside("unet", settings=("model.width=4", "model.depth=3"))
FEW = Exam(items=("landolt", "bind"), size=64)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=6))
    monkeypatch.setitem(examine.MORE, "quick", 6)
    monkeypatch.setitem(conflict.PLANS, "quick", conflict.Plan(8, 4))


def examined(names: list[str], outside: Outside | None, asked: Exam) -> tuple[dict[str, Any], str]:
    out = io.StringIO()
    told = run.exam_runs(
        names,
        outside,
        asked,
        weights=LAST,
        device="cpu",
        runs=Path("runs"),
        reports=Path("reports"),
        console=Console(file=out, width=200),
    )
    return told, out.getvalue()


def test_an_exam_is_written_read_reported_and_costs_no_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    told, _ = examined([], UNET, FEW)
    (result,) = told["results"]
    written = read_json(Path("runs/unet-exam/results/exam-last.json"))
    assert written == json.loads(json.dumps(result))
    reader = read_result(written)
    assert [row["name"] for row in result["rows"]][1:] == [
        "random weights",
        "patch bag",
        "raw pixels",
        "known template",
        "ideal reader",
    ]
    own = result["rows"][0]
    assert set(own["items"]) == {"landolt", "bind"}
    outputs = {(read["layer"], read["pool"]) for read in own["items"]["landolt"]}
    assert {("level1", "gap"), ("level3", "grid4"), ("embedding", "own")} <= outputs
    assert result["items"]["landolt"]["px"] == [0.5, 0.75, 1, 1.5, 2, 3, 4]
    assert result["items"]["bind"]["certificate"].startswith("whole, certified 9")
    assert {table.key for table in reader.tables(result)} >= {"thresholds", "wholes", "conflict", "invariance"}
    assert set(reader.scores(own)) == {"landolt", "bind"}
    assert Path("runs/unet-exam/figures/exam-last-chart.png").stat().st_size > 10_000

    found = find_result(Run(Path("runs/unet-exam")), FEW, LAST, epochs=0, asked=[FEW])  # as a sweep finds it
    assert found == written

    monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("a forward pass"))
    again, said = examined(["unet-exam"], None, Exam(items=("landolt", "bind"), size=64, parts=("acuity", "wholes")))
    assert again["results"][0]["rows"][0]["items"]["bind"] == own["items"]["bind"]
    assert again["results"][0]["rows"][0]["conflict"] == []
    assert ": landolt" not in said
    content = collect([Run(Path("runs/unet-exam"))])
    first = build(content).chapters[0].sections[0]
    assert first.title == "Exam"
    assert "Reads a gap" in markdown(build(content))
    assert "<svg" in html(build(content))


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"not a zip"])
def test_trials_that_are_no_file_of_ours_are_made_again(tmp_path: Path, content: bytes) -> None:
    values = np.zeros((1, 1, 4), np.float32)
    made = []

    def make() -> Sets:
        made.append(1)
        return {"test": {("embedding", "own"): Trial(values, values, ("one",))}}

    kept(tmp_path, "bind", {}, make)
    (path,) = tmp_path.glob("bind-*.npz")
    path.write_bytes(content)
    for _ in range(2):
        assert kept(tmp_path, "bind", {}, make)["test"]["embedding", "own"].regimen == ("one",)
    assert made == [1, 1]


def test_an_exam_of_other_items_stands_beside_the_one_before() -> None:
    """The drawings are another set then, though of the same size and noise."""
    asked: dict[str, Any] = {"size": 64, "parts": ("wholes",), "layers": ("last",), "pools": ("own",)}
    both, _ = examined([], UNET, Exam(items=("bind", "same"), **asked))
    for _ in range(2):
        one, _ = examined(["unet-exam"], None, Exam(items=("bind",), **asked))
    results = Path("runs/unet-exam/results")
    assert {path.name for path in results.iterdir()} == {"exam-last.json", "exam-last-2.json"}
    assert read_json(results / "exam-last.json")["command"] == both["results"][0]["command"]
    assert read_json(results / "exam-last-2.json")["command"] == one["results"][0]["command"]


@pytest.mark.parametrize("parts", [("conflict",), ("conflict", "wholes"), ("invariance",)])
def test_parts_without_thresholds_are_drawn(parts: tuple[str, ...]) -> None:
    told, _ = examined([], UNET, Exam(items=("bind",), size=64, parts=parts, layers=("last",), pools=("own",)))
    titles = {axes.get_title(loc="left") for axes in draw_exam(told["results"]).axes}
    assert ("Whole against parts" in titles) == ("conflict" in parts)


@pytest.mark.parametrize("changed", ["change", "figure"])
def test_trials_are_made_again_where_what_is_drawn_changed(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Exam(size=64, parts=("invariance",) if changed == "change" else ("conflict",), layers=("embedding",))
    examined([], UNET, asked)
    if changed == "change":
        monkeypatch.setitem(draw.CHANGES, "half the size", (None, {"gap": 3.0}))
    else:
        monkeypatch.setitem(ITEMS, conflict.FIGURE, replace(ITEMS[conflict.FIGURE], version=99))
    _, said = examined(["unet-exam"], None, asked)
    assert f"patch bag: {'landolt' if changed == 'change' else 'conflict'} ..." in said


def test_damaged_trials_are_made_again() -> None:
    asked = Exam(items=("bind",), size=64, parts=("wholes",), layers=("last",))
    told, _ = examined([], UNET, asked)
    (path,) = Path("runs/unet-exam/exam").glob("bind-*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    again, said = examined(["unet-exam"], None, asked)
    assert "bind ..." in said
    assert again["results"][0]["rows"] == told["results"][0]["rows"]


def test_two_encoders_share_a_chart_and_paired_differences() -> None:
    asked = Exam(items=("landolt",), size=64, parts=("acuity",), layers=("last",))
    examined([], UNET, asked)
    examined([], Outside("unet", seed=1, settings=UNET.settings), asked)
    told, said = examined(["unet-exam", "unet-exam-2"], None, asked)
    assert "reports/exam-unet-exam+unet-exam-2.png" in said.replace("\n", "")
    (difference,) = told["differences"]
    areas = [result["rows"][0]["items"]["landolt"][-1]["areas"] for result in told["results"]]
    assert difference["areas"] == pytest.approx(np.mean(areas[0]) - np.mean(areas[1]))
    assert difference["verdict"] in ("above", "below", "not told apart from")
    table = differences_table(told["differences"])
    assert table.rows[0][0].text == "landolt"
    words = "exam unet-exam unet-exam-2 --items landolt --size 64 --parts acuity --layers last"
    printed = typed(*words.split(), cwd=Path.cwd()).stdout
    assert len(re.findall("^ patch bag ", printed, re.M)) == 1
    assert re.search(r"^unet-exam:\n  Reads .*^unet-exam-2:\n  Reads ", printed, re.M | re.S)
    with pytest.raises(ValueError, match="expected each run once"):
        examined(["unet-exam", "runs/unet-exam"], None, asked)


def test_an_encoder_does_not_differ_from_itself() -> None:
    asked = Exam(items=("landolt",), size=64, parts=("acuity",), layers=("last",))
    told, _ = examined([], UNET, asked)
    (result,) = told["results"]
    values = np.random.default_rng(0).normal(size=(1, 7, 12)).astype(np.float32)
    same = Examined(result, {"landolt": {("embedding", "own"): Trial(values, values, ("easy",))}})
    (found,) = differences([same, same])
    assert found["areas"] == 0
    assert found["verdict"] == "not told apart from"
    assert found["times"] is None or found["times"]["value"] == 1


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"parts": ("acuty",)}, "did you mean 'acuity'"),
        ({"items": ("landot",)}, "did you mean 'landolt'"),
        ({"pools": ("cls", "gab")}, "did you mean 'gap'"),
        ({"parts": ()}, "expected a name after --parts"),
        ({"size": 32}, "expected --size at least 64"),
        ({"size": 1024}, "expected --size at most 512"),
        ({"noise": 0.0}, "expected --noise at least 0.01"),
        ({"noise": float("nan")}, "expected --noise at most 0.5"),
        ({"seeds": ()}, "expected 1 to 20 --seeds"),
        ({"seeds": (0, -1)}, "expected --seeds from 0 to"),
        ({"seeds": (10**15,)}, "expected --seeds from 0 to"),
        ({"items": ()}, "expected a name after --items"),
        ({"layers": ("all", "last")}, "expected --layers all or names, found all,last"),
        ({"parts": ("acuity",), "items": ("bind",)}, "expected --items of --parts acuity, found bind"),
        ({"preset": "fast"}, "unknown value of --preset"),
    ],
)
def test_what_cannot_be_asked_is_one_line(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Exam(**wrong)


def test_a_size_that_an_encoder_does_not_take_is_one_line_that_says_which_to_type() -> None:
    with pytest.raises(ValueError, match=r"found 100x100; type: --size 96$"):
        examined([], Outside("timm:vit_tiny_patch16_224"), Exam(items=("bind",), parts=("wholes",), size=100))
    assert not Path("runs").exists()


def test_a_layer_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ValueError, match="unknown layer"):
        examined([], UNET, Exam(items=("bind",), size=64, layers=("level9",)))


def test_a_size_that_patches_do_not_divide_is_told_with_one_that_they_do() -> None:
    with pytest.raises(ValueError, match=r"divisible by 16.*; type: --size 96$"):
        examined([], Outside("timm:test_vit"), Exam(items=("bind",), size=100))


@pytest.mark.parametrize("more", [["a"], ["--items", "bind"], ["--encoder", "unet"]])
def test_the_selftest_stands_alone(more: list[str]) -> None:
    done = CliRunner().invoke(app, ["exam", "--selftest", *more])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == "expected --selftest alone, found it with others; type: probekit exam --selftest"


def test_an_ideal_reader_that_is_wrong_of_a_drawing_tells_nothing_of_its_item() -> None:
    """That of rect-tri is made for round corners of 20 px; those of rings read every level."""
    rows = run._knowing(Exam(items=("landolt", "corner"), parts=("acuity",)), draw.Frame(128, 0.08))
    template, ideal = rows
    assert set(template["items"]) == {"landolt", "corner"}
    assert set(ideal["items"]) == {"landolt"}
    assert ideal["items"]["landolt"][0]["areas"] == [1.0] * 7
