"""Pictures of a sweep: when each is drawn, of which runs, and what a file may not ask for.

Alone: pytest tests/sweep/test_figures.py
"""

from pathlib import Path

import pytest

from probekit.heatmaps.measurement import Heatmap
from probekit.sweep.definition import load, parse
from probekit.sweep.figures import drawable
from probekit.sweep.plan import PlannedRun, plan_runs
from tests.sweep.test_breaks import ASK, FILE, RUNS, sweep

FIGURE = """
[[figures]]
name = "side"
rows = ["conrec", "simclr"]
heatmap = { maps = ["gradcam-loss"], perturb = 0 }
"""


def planned_of(text: str) -> list[PlannedRun]:
    return list(plan_runs(parse("s", text, where="s.toml"), "s", preset="quick", epochs=2, seeds=(0, 1)))


def test_a_picture_is_drawn_once_all_its_runs_of_the_first_seed_are_finished(tmp_path: Path) -> None:
    figures, planned = parse("s", FILE + FIGURE, where="s.toml").figures, planned_of(FILE + FIGURE)
    by_name = {run.name: run for run in planned}
    simclr, conrec = "s-rt-simclr-seed0", "s-rt-conrec-seed0"
    assert list(drawable(figures, planned, {simclr: True}, tmp_path)) == []
    other = {simclr: True, conrec.replace("seed0", "seed1"): True}
    assert list(drawable(figures, planned, other, tmp_path)) == []
    [(figure, runs, out)] = drawable(figures, planned, {simclr: True, conrec: True}, tmp_path)
    assert runs == [by_name[conrec], by_name[simclr]], "in the order of the figure"
    assert out == tmp_path / "side-rt.png"
    typed = figure.command(runs, "cpu", out)
    assert typed[:3] == ["heatmap", conrec, simclr]
    assert typed[3:] == [*Heatmap(maps=("gradcam-loss",), perturb=0).words, "--device", "cpu", "--out", str(out)]
    out.write_text("drawn")
    assert list(drawable(figures, planned, {simclr: True, conrec: True}, tmp_path)) == []


def test_a_sweep_draws_its_pictures_and_draws_again_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(FILE + FIGURE)
    picture = tmp_path / "sweeps/s/side-rt.png"
    code, out, err = sweep("s.toml", *ASK, cwd=tmp_path)
    assert (code, err) == (0, "")
    first = [name for name in RUNS if name.endswith("seed0")]
    assert sorted(picture.read_text().split()[:2]) == sorted(first)
    assert picture.read_text().endswith("gradcam-loss 0")
    assert out.rstrip().endswith("pictures: sweeps/s/side-rt.png")
    picture.unlink()
    code, out, err = sweep("s.toml", "--resume", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert picture.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"conrec", "simclr"]\nheat', '"conrec", "simcrl"]\nheat', "unknown row 'simcrl'.*figure side of s.toml"),
        ('rows = ["conrec", "simclr"]', 'rows = ["conrec"]', "expected figures.*rows.*at least 2"),
        ("gradcam-loss", "gradcam-lost", "unknown map 'gradcam-lost'"),
        ("perturb = 0", "perturbed = 0", "unknown option 'perturbed'"),
    ],
)
def test_mistakes_are_one_line(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse("s", FILE + FIGURE.replace(old, new), where="s.toml")
    assert "\n" not in str(error.value)


def test_two_pictures_of_one_name_are_refused() -> None:
    """Of figure "side" on data "x-rt" and of "side-x" on "rt": the second would never be drawn."""
    other = FILE.replace("[[rows]]", '[[datasets]]\nname = "x-rt"\ngenerator = "landolt"\n[[rows]]', 1)
    with pytest.raises(ValueError, match=r"expected different pictures in s\.toml, found 'side-x-rt\.png' twice"):
        parse("s", other + FIGURE + FIGURE.replace('"side"', '"side-x"'), where="s.toml")


def test_the_papers_figures_are_shipped() -> None:
    """Their rows in the papers' order; the branch's loss counts in the one and not in the other."""
    (figure,) = load("lcr-figure1").figures
    rows = {row.name: row for row in load("lcr-figure1").rows}
    assert figure.rows == ("moco-v2", "vicreg", "moco-v2-lcr")
    assert [rows[name].settings[-1] for name in figure.rows[::2]] == ["branch.lcr.weight=0", "train.batch_size=128"]
    assert figure.asked == Heatmap(maps=("gradcam-loss",), n=200, perturb=0)
    (figure,) = load("xcorr-figure3").figures
    assert figure.rows == ("swav-xcorr", "swav")
    assert figure.asked == Heatmap(maps=("cam",), target="logit", n=500, perturb=0)
