"""The commands as a user types them: the whole path on small data, exit codes, one-line errors, promised JSON shapes.

Alone: pytest tests/cli/test_cli.py
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from probekit.data.locate import newest_dataset
from probekit.h5 import read_info
from probekit.registry import METHODS
from probekit.run import Run
from probekit.train.start import StoppedError
from tests.typed import typed

QUICK = ["--epochs", "1", "--batch-size", "8", "--set", "model.width=4"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where gen and pretrain have been typed once."""
    folder = tmp_path_factory.mktemp("home")
    done = typed("gen", "rect-tri", "--n", "24", "--n-test", "12", "--size", "32", "--preview", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "next: probekit pretrain conrec --data data/rect-tri.h5" in done.stdout
    done = typed("pretrain", "conrec", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "preset quick (the default on a CPU)" in done.stdout
    assert "next: probekit probe conrec-rect-tri" in done.stdout
    return folder


def test_gen_writes_file_and_preview(home: Path) -> None:
    assert (home / "data" / "rect-tri.h5").exists()
    assert list((home / "data").glob("*.png"))


def test_probe_json_is_as_promised(home: Path) -> None:
    done = typed("probe", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results.keys() == {"linear", "health"}
    result = results["linear"]
    assert {"schema", "run", "data", "protocol", "options", "rows"} <= result.keys()
    assert (result["schema"], result["run"]) == ("probekit-linear/1", "conrec-rect-tri")
    assert (result["protocol"], result["options"]) == ("tuned", {})
    assert [row["kind"] for row in result["rows"]] == ["encoder", *["baseline"] * 5]
    for row in result["rows"]:
        assert {"name", "kind", "accuracy", "ci", "n"} <= row.keys()
        low, high = row["ci"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert row["n"] == 12
        assert row["factors"].keys() == {"corner", "triangle"}
    encoder = result["rows"][0]
    assert len(encoder["predicted"]) == len(encoder["labels"]) == 12
    healthy, untrained = results["health"]["rows"]
    assert (untrained["name"], untrained["kind"]) == ("random weights", "baseline")
    assert healthy["n"] == untrained["n"] == 12
    assert healthy["rankme"]["centred"] <= 11.1  # centring takes a dimension from 12 images
    weights = (home / "runs/conrec-rect-tri/encoder.safetensors").read_bytes()
    run = home / "runs/conrec-rect-tri"
    for name, stem in (("linear", "linear-tuned-last"), ("health", "health-last")):
        assert results[name]["checkpoint_hash"] == hashlib.sha256(weights).hexdigest()
        assert json.loads((run / f"results/{stem}.json").read_text()) == results[name]
    drawn = {path.name for path in (run / "figures").glob("*-last-*.png")}
    assert drawn == {
        "linear-tuned-last-bars.png",
        "linear-tuned-last-confusion.png",
        "health-last-spectrum.png",
        "health-last-deviation.png",
    }


def test_probe_table_says_what_it_took(home: Path) -> None:
    done = typed("probe", "--protocol", "fixed", "--checkpoint", "best_test", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "(the newest)" in done.stdout
    assert "best_test (as the papers choose)" in " ".join(done.stdout.split())
    assert "Effective rank" in done.stdout
    for baseline in ("chance", "ink statistics", "raw pixels", "patch bag", "random weights"):
        assert baseline in done.stdout


def test_list_json_is_as_promised(home: Path) -> None:
    done = typed("list", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    assert {"generators", "methods"} <= content.keys()
    counts = {m["name"]: m["encoder_parameters"] for m in content["methods"]}
    assert counts.keys() == METHODS.keys()
    assert (counts["simclr"], counts["conrec"]) == (4_689_216, 4_862_657)
    assert {g["name"] for g in content["generators"]} >= {"rect-tri", "circ-sq"}
    assert all(m["paper"] for m in content["methods"])
    parameters = {g["name"]: {p["name"] for p in g["parameters"]} for g in content["generators"]}
    assert parameters["rect-tri"] >= {"corner_radius", "apex_angle", "triangle_scale", "contrast", "rotation"}
    assert parameters["circ-sq"] >= {"squareness", "size_ratio", "gap", "contrast", "background", "blur_sd"}


def test_list_for_readers(home: Path) -> None:
    for kind, told in (("generators", "corner_radius"), ("methods", "4,862,657")):
        done = typed("list", kind, cwd=home)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout


def test_show_describes_and_draws(home: Path) -> None:
    done = typed("show", "data/rect-tri.h5", "--out", "grid.png", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "probekit-dataset/5" in done.stdout
    assert (home / "grid.png").stat().st_size > 1000


def test_show_views_before_and_after_training(home: Path) -> None:
    assert typed("show", "--views", "conrec", "--out", "views.png", cwd=home).returncode == 0
    done = typed("show", "conrec-rect-tri", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    assert (home / "views.png").exists()
    pictures = sorted((home / "runs/conrec-rect-tri/figures").glob("views-*.png"))
    assert [path.suffixes for path in pictures] == [[".dark", ".png"], [".png"]], "for dark pages, too"
    picture = pictures[1]
    shown = json.loads(done.stdout)
    assert (shown["run"], shown["after"], shown["predicts"]) == ("conrec-rect-tri", "epoch 1", True)
    assert home / shown["picture"] == picture


def test_show_of_a_run_is_of_its_own_data_at_its_own_size(home: Path, tmp_path: Path) -> None:
    """Another file is the newest; views of 16 px, as in training; what does not fit is one line."""
    from tests.datasets import noise_npz

    data = str(home / "data" / "rect-tri.h5")
    shown = [*QUICK, "--name", "small", "--data", data, "--set", "views.max_size=16"]
    assert typed("pretrain", "reconstruction", *shown, cwd=tmp_path).returncode == 0
    noise_npz(tmp_path / "noise.npz", channels=3)
    assert typed("import", "noise.npz", cwd=tmp_path).returncode == 0
    done = typed("show", "small", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs/small/figures/views-rect-tri.png" in done.stdout
    done = typed("show", "small", "--data", "data/noise.h5", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected images of 1 channel," in done.stderr


@pytest.mark.parametrize("words", [("conrec-rect-tri",), ("--views", "conrec"), ()])
def test_a_split_that_is_not_there_is_named_with_those_that_are(home: Path, words: tuple[str, ...]) -> None:
    done = typed("show", *words, "--split", "val", cwd=home)
    assert (done.returncode, done.stderr) == (1, "error: unknown split 'val'; known: test, train\n")


def test_a_second_run_gets_a_name_of_its_own(home: Path) -> None:
    done = typed("pretrain", "simclr", *QUICK, "--data", "data/rect-tri.h5", "--name", "mine", cwd=home)
    assert done.returncode == 0, done.stderr
    again = typed("pretrain", "simclr", *QUICK, "--data", "data/rect-tri.h5", "--name", "mine", cwd=home)
    assert again.returncode == 1
    assert "type --resume to go on with it" in again.stderr
    longer = typed("pretrain", "--resume", "--name", "mine", "--epochs", "2", cwd=home)
    assert longer.returncode == 0, longer.stderr
    assert "resuming runs/mine after epoch 1 of 2" in longer.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gen", "rect-tir"], 1, "did you mean 'rect-tri'"),
        (["gen", "rect-tri"], 1, "--overwrite"),
        (["gen", "rect-tri", "--out", "x.h5", "--set", "corner_radios=3"], 1, "corner_radius"),
        (["gen", "rect-tri", "--size", "8"], 2, "16"),
        (["gen", "--n", "4", "--out", "mine.h5", "--preview"], 1, "no picture that probekit drew; move it away"),
        (["gen", "--n", "4", "--out", "y.png", "--preview"], 1, "type --out y.h5"),
        (["pretrain", "conrek"], 1, "did you mean 'conrec'"),
        (["pretrain", "conrec", "--data", "none.h5"], 1, "type: probekit gen"),
        (["pretrain", "conrec", "--data", "junk.h5"], 1, "junk.h5"),
        (["pretrain", "conrec", "--set", "train.epoch=3"], 1, "did you mean 'train.epochs'"),
        (["pretrain", "conrec", "--device", "cuda:7"], 1, "type: --device cpu"),
        (["pretrain", "conrec", "--overwrite"], 1, "--name"),
        (["pretrain", "--name", "deep/run"], 1, "expected --name of a folder in runs"),
        (["pretrain", "--name", ".hidden"], 1, "expected --name of a folder in runs"),
        (["pretrain", "--resume", "--name", "nowhere"], 1, "nowhere"),
        (["pretrain", "--resume", "--set", "train.epochs=3"], 1, "leave them out"),
        (["pretrain", "--resume", "--overwrite"], 1, "leave them out"),
        (["pretrain", "simclr", "--resume", "--name", "conrec-rect-tri"], 1, "expected a run of simclr"),
        (["probe", "nowhere"], 1, "unknown run 'nowhere'"),
        (["probe", "conrec-rect-tr"], 1, "did you mean 'conrec-rect-tri'"),
        (["show", "conrec-rect-tr"], 1, "unknown dataset file or run 'conrec-rect-tr'; known: conrec-rect-tri, "),
        (["show", "rect-tri"], 1, "did you mean data/rect-tri.h5?"),
        (["show", "data/rect-tri.h5", "--data", "junk.h5"], 1, "leave --data out"),
        (["show", "conrec-rect-tri", "--verify"], 1, "leave it out"),
        (["pretrain", "--data", "conrec-rect-tri"], 1, "type: probekit show conrec-rect-tri"),
        (["show", "data/rect-tri.h5", "--split", "tset"], 1, "did you mean 'test'"),
        (["pretrain", "--data", "data/rect-tri"], 1, "did you mean data/rect-tri.h5?"),
        (["gen", "--n", "4", "--out", "y"], 1, "type --out y.h5"),
        (["probe", "--protocol", "fixd"], 2, "'fixd' is not one of 'tuned', 'fixed'"),
        (["probe", "--checkpoint", "best"], 1, "type: --checkpoint last"),
        (["import", "junk.h5", "--out", "y.h5"], 1, "junk.h5"),
        (["show", "junk.h5"], 1, "junk.h5"),
        (["show", "memory.h5"], 1, "type: probekit gen rect-tri\n"),  # and no word of a batch
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(home: Path, arguments: list[str], code: int, message: str) -> None:
    (home / "junk.h5").write_bytes(b"junk")
    (home / "mine.png").write_bytes(b"a holiday")
    before = sorted(home.rglob("*"))
    done = typed(*arguments, cwd=home)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.startswith("error: ")
    assert sorted(home.rglob("*")) == before


def test_version() -> None:
    """In a process of its own, as everybody starts it."""
    done = subprocess.run([sys.executable, "-m", "probekit", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "probekit 0.1.0\n")


def test_debug_shows_the_traceback(home: Path) -> None:
    done = typed("--debug", "gen", "rect-tir", cwd=home)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_no_test_images_are_no_test_split(tmp_path: Path) -> None:
    done = typed("gen", "circ-sq", "--n", "3", "--n-test", "0", "--size", "16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote data/circ-sq.h5: 3 train; " in done.stdout
    assert read_info(tmp_path / "data/circ-sq.h5").splits.keys() == {"train"}


def test_a_file_without_train_is_shown_and_what_needs_train_says_so(tmp_path: Path) -> None:
    done = typed("gen", "circ-sq", "--n", "0", "--n-test", "3", "--size", "16", "--out", "t.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote t.h5: 3 test; " in done.stdout
    assert "next: probekit export-embeddings RUN --data t.h5" in done.stdout
    for line in (["show", "t.h5", "--verify"], ["show", "t.h5", "--views", "simclr"]):
        shown = typed(*line, cwd=tmp_path)
        assert (shown.returncode, "picture t" in shown.stdout) == (0, True), shown.stderr
    for line in (["pretrain", "conrec", "--data", "t.h5"], ["probe", "--encoder", "unet", "--data", "t.h5"]):
        refused = typed(*line, cwd=tmp_path)
        assert refused.returncode == 1
        assert re.fullmatch(r"error: expected a .*train.*, found .*; .*", refused.stderr.replace("\n", " ").strip())
    assert not (tmp_path / "runs").exists()


def test_paths_may_hold_brackets(home: Path) -> None:
    done = typed("gen", "circ-sq", "--n", "3", "--n-test", "3", "--size", "16", "--out", "[red]/x[/b].h5", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "wrote [red]/x[/b].h5" in done.stdout


def test_a_name_that_stdout_cannot_write_is_escaped(tmp_path: Path) -> None:
    command = ["gen", "circ-sq", "--n", "3", "--n-test", "3", "--size", "16", "--out", "\xe9.h5"]
    done = typed(*command, cwd=tmp_path, encoding="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("next: probekit pretrain conrec --data '\\xe9.h5'\n")


def test_import_then_train_from_an_npz(home: Path) -> None:
    from tests.datasets import noise_npz

    noise_npz(home / "noise.npz")
    done = typed("import", "noise.npz", "--val-fraction", "0.25", cwd=home)
    assert done.returncode == 0, done.stderr
    done = typed("pretrain", "reconstruction", *QUICK, "--data", "data/noise.h5", cwd=home)
    assert done.returncode == 0, done.stderr


def test_probe_passes_over_an_unlabelled_validation_split(home: Path) -> None:
    from tests.datasets import edited, noise_npz

    noise_npz(home / "bare.npz")
    assert typed("import", "bare.npz", "--val-fraction", "0.25", cwd=home).returncode == 0
    with edited(home / "data" / "bare.h5") as file:
        del file["val/labels"]
    done = typed("probe", "conrec-rect-tri", "--data", "data/bare.h5", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["linear"]["rows"][0]["n"] == 9


def test_a_folder_is_not_the_newest_dataset(tmp_path: Path) -> None:
    (tmp_path / "photos.h5").mkdir()
    assert newest_dataset(tmp_path) is None


def test_commands_without_options_in_an_empty_folder(tmp_path: Path) -> None:
    done = typed("probe", cwd=tmp_path)
    assert done.returncode == 1
    assert "type: probekit pretrain conrec" in done.stderr
    assert not list(tmp_path.iterdir())
    done = typed("show", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["generator"] == "rect-tri"
    assert "wrote data/rect-tri.h5" in done.stderr
    assert not list(tmp_path.rglob("*.png"))
    done = typed("show", "data/rect-tri.h5", "--json", "--out", "pic.png", cwd=tmp_path)
    assert json.loads(done.stdout)["generator"] == "rect-tri"
    assert (tmp_path / "pic.png").read_bytes()[:4] == b"\x89PNG"


def test_a_size_that_cannot_be_trained_on_is_told_at_once(tmp_path: Path) -> None:
    done = typed("gen", "rect-tri", "--n", "4", "--n-test", "4", "--size", "100", cwd=tmp_path)
    assert "--size 96 --overwrite" in done.stdout
    done = typed("pretrain", cwd=tmp_path)
    assert (done.returncode, "divisible by 8, found 100x100" in done.stderr) == (1, True)


def test_unlabelled_images_are_trained_on_and_never_sent_in_a_circle(home: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    (tmp_path / "flat").mkdir()
    for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (16, 32, 32), np.uint8)):
        cv2.imwrite(str(tmp_path / "flat" / f"{index}.png"), image)
    assert typed("import", "flat", cwd=tmp_path).returncode == 0
    done = typed("pretrain", "conrec", *QUICK, "--name", "bare", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: probekit show bare   or   probekit probe bare --data LABELLED.h5" in done.stdout
    done = typed("probe", cwd=tmp_path)
    assert (done.returncode, "found no test split" in done.stderr) == (1, True)
    done = typed("probe", "bare", "--data", str(home / "data/rect-tri.h5"), "--no-baselines", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: bare was trained on data/flat.h5" in done.stdout
    assert "raw pixels" not in done.stdout


def test_a_picture_replaces_only_what_probekit_drew(home: Path, tmp_path: Path) -> None:
    file = str(home / "data" / "rect-tri.h5")
    (tmp_path / "mine.png").write_bytes(b"a holiday")
    done = typed("show", file, "--out", "mine.png", cwd=tmp_path)
    assert (done.returncode, "no picture that probekit drew" in done.stderr) == (1, True)
    assert (tmp_path / "mine.png").read_bytes() == b"a holiday"
    assert [typed("show", file, "--out", "new.png", cwd=tmp_path).returncode for _ in range(2)] == [0, 0]
    done = typed("show", file, "--out", "new.txt", cwd=tmp_path)
    assert (done.returncode, "type --out new.png" in done.stderr) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.png", "new.png"]


def test_demo_keeps_a_finished_run_and_goes_on_with_an_interrupted_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probekit.cli import demo

    called: list[str] = []
    monkeypatch.setattr(demo, "run_pretrain", lambda *args, **named: called.append("pretrain"))
    monkeypatch.setattr(demo, "run_resume", lambda *args, **named: called.append("resume"))
    run = Run(tmp_path / "demo-conrec")

    def go(overwrite: bool = False) -> None:
        console = Console(quiet=True)
        demo._pretrain("conrec", tmp_path / "demo.h5", run, (), overwrite=overwrite, console=console)

    go()
    shutil.copytree(home / "runs" / "conrec-rect-tri", run.path)
    go()
    run.update(state="interrupted")
    go()
    go(overwrite=True)
    (run.checkpoints / "last.pt").unlink()
    go()
    assert called == ["pretrain", "resume", "pretrain", "pretrain"]


def test_demo_prints_its_run_as_json(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from probekit.cli import demo

    run = Run(home / "runs" / "conrec-rect-tri")
    monkeypatch.setattr(demo, "run_demo", lambda *asked, **about: run)
    done = typed("demo", "--json", cwd=home)
    found = json.loads(done.stdout)
    assert (found["name"], found["report"]) == (run.name, str(run.path / "report.html"))
    assert found.keys() >= {"method", "state", "accuracy"}


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), StoppedError("to go on type: probekit pretrain --resume")])
@pytest.mark.parametrize(
    ("words", "again"),
    [
        ((), "probekit demo"),
        (("simclr", "--overwrite"), "probekit demo simclr"),
        (("--real",), "probekit demo --real"),
        (("--quick",), "probekit demo --quick"),
    ],
)
def test_a_demo_that_is_stopped_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], again: str, stopped: BaseException
) -> None:
    """In one line, and not with what a part of it would say, or what trains it anew."""
    from probekit.cli import demo

    for part in ("render_once", "_digits"):
        monkeypatch.setattr(demo, part, Mock(side_effect=stopped))
    done = typed("demo", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: stopped; what is done is kept, to go on with the demo type: {again}\n"


@pytest.mark.parametrize("slow", [True, False])
def test_demo_on_real_images_is_shorter_on_a_slow_machine_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slow: bool
) -> None:
    """On its own images preset quick is what it says, but for the epochs that are scored."""
    from probekit.cli import demo
    from probekit.config import resolve
    from probekit.registry import METHODS, get

    given: dict[str, Any] = {}
    monkeypatch.setattr(demo, "_digits", lambda file, console: file)
    monkeypatch.setattr(demo, "render_once", lambda name, file, console: file)
    monkeypatch.setattr(demo, "is_slow", lambda: slow)

    def pretrain(asked: Any, **named: Any) -> None:
        given.update(overrides=asked.overrides)
        raise StoppedError

    monkeypatch.setattr(demo, "run_pretrain", pretrain)
    folders: dict[str, Any] = {"data": tmp_path, "runs": tmp_path / "runs", "overwrite": False}
    for real in (True, False):
        with pytest.raises(StoppedError):
            demo.run_demo("simclr", real=real, console=Console(soft_wrap=True), **folders)
        assert ("no AVX-512" in capsys.readouterr().out) == (slow and real)
        quick = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0)
        config = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, **given)
        assert config.train.epochs == (15 if slow and real else quick.train.epochs)
        assert config.train.eval_every > config.train.epochs
        assert config.views == quick.views


def test_odds_that_leave_no_corruption_leave_no_run(home: Path) -> None:
    odds = [f"--set=views.{name}=0" for name in ("pixel_shuffling", "intensity", "in_painting", "out_painting")]
    small = ("--set", "model.width=2", "--set", "model.depth=2", "--epochs", "1", "--name", "without")
    done = typed("pretrain", "conrec", *small, *odds, cwd=home)
    assert done.returncode == 1
    assert "expected odds above 0 of some corruption" in done.stderr
    assert not (home / "runs/without").exists()
