"""The sweep `acuity` in parts: what is kept of a run on one machine, and drawn with those of others."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import acuity
from tests.exams import answers

SETTINGS = {"preset": "quick", "train": {"epochs": 2}}


def run(runs: Path, method: str, seed: int, apart: float, *, drawings: str = "a", settings: Any = SETTINGS) -> None:
    """A finished run of the sweep, as far as it is read."""
    folder = runs / f"acuity-rect-tri-{method}-seed{seed}"
    (folder / "results").mkdir(parents=True)
    rows = [answers.row(f"{method} last", "encoder", apart), answers.row("random weights", "baseline", 0.1)]
    (folder / "results" / "exam-last.json").write_text(json.dumps({"data_hash": drawings, "rows": rows}))
    header = {"config": {"seed": seed, **settings}, "commit": "0123456789", "versions": {"torch": "2"}}
    (folder / "run.json").write_text(json.dumps(header))


def test_parts_of_two_machines_are_what_one_would_have_had(tmp_path: Path) -> None:
    whole, first, rest, kept = (tmp_path / name for name in ("whole", "first", "rest", "kept"))
    cases = [(method, seed, 0.3 + 0.1 * seed) for seed in range(3) for method in ("conrec-gap", "simclr")]
    for number, (method, seed, apart) in enumerate(cases):
        for runs in (whole, first if number < 3 else rest):
            run(runs, method, seed, apart + 0.2 * (method == "simclr"))
    acuity.keep(acuity.gather(first, kept), kept)
    assert {path.stem for path in kept.iterdir()} == {f"rect-tri-{method}-seed{seed}" for method, seed, _ in cases[:3]}
    assert all(path.stat().st_size < 4096 for path in kept.iterdir())
    parts = acuity.gather(rest, kept)
    found, expected = acuity.collect(parts), acuity.collect(acuity.gather(whole, None))
    assert list(found) == [("rect-tri", name) for name in ("simclr", "random weights", "conrec-gap")]
    lines = [*acuity.table(found), *acuity.tests(found)]
    assert lines == [*acuity.table(expected), *acuity.tests(expected)]
    assert any("conrec-gap against simclr, landolt: " in line for line in lines)
    acuity.draw(found).draw_without_rendering()


@pytest.mark.parametrize("other", [{"drawings": "b"}, {"settings": {"preset": "paper"}}])
def test_runs_that_cannot_be_compared_are_not_drawn_together(other: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "one", "simclr", 0, 0.6)
    run(tmp_path / "other", "simclr", 1, 0.6, **other)
    acuity.keep(acuity.gather(tmp_path / "one", None), tmp_path / "kept")
    with pytest.raises(ValueError, match=rf"same {next(iter(other))} .*simclr-seed0 \(0123456\), .*simclr-seed1"):
        acuity.gather(tmp_path / "other", tmp_path / "kept")
