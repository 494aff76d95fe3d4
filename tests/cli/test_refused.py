"""What is refused before any work is done, in one line; and a monitor's kappa, which is no percentage.

Alone: pytest tests/cli/test_refused.py
"""

from pathlib import Path

import pytest

from probekit.cli import shown
from probekit.config import resolve
from probekit.measurement import Score
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.sweep.progress import said
from tests.typed import typed


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("gen landolt --list", "expected --list, which draws every generator, with --out, --json and -q alone"),
        ("gen --list --out ''", "expected a picture NAME.png, NAME.svg or NAME.pdf, found .; type --out picture.png"),
        ("gen --list --out link.png", "link.png exists and is no picture that probekit drew"),
        ("gen landolt --certify --size 32 --n 0 --n-test 0", "expected an image in train or in test, found none in bo"),
        ("gen landolt --certify --size 32 --n 9999999999", "expected at most 1000000000 images in a split"),
        ("gen landolt --certify --size 32 --out a.npz/b.h5", "cannot read or write a.npz: "),
        ("certify a.npz", "expected a dataset file NAME.h5, found a.npz; type: probekit import a.npz"),
        ("certify rect-tri --r 3_3", "expected whole numbers with commas between them, found '3_3'; type --r 3,5,9"),
        ("certify rect-tri --r \u0663", "expected whole numbers with commas between them"),
    ],
)
def test_one_line_before_anything_is_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, line: str
) -> None:
    def refuse(*asked: object, **about: object) -> None:
        raise AssertionError

    monkeypatch.setattr(shown, "certificate_of", refuse)
    (tmp_path / "a.npz").write_bytes(b"")
    (tmp_path / "link.png").symlink_to("nowhere")
    done = typed(*(word.strip("'") for word in command.split()), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1


def test_a_branch_that_places_crops_is_refused_where_none_are_cut() -> None:
    def built(recipe: str) -> None:
        overrides = [f"views.recipe={recipe}", "model.width=4"]
        kind = get(METHODS, "method", "supervised")
        branches = ["contrastive-crop"]
        config = resolve("supervised", kind, preset="quick", seed=0, overrides=overrides, branches=branches)
        build_method(config, channels=1)

    built("moco-v2")
    with pytest.raises(
        ValueError, match=r"expected views.recipe with crops for branch contrastive-crop.* found 'whole'"
    ):
        built("whole")


@pytest.mark.parametrize(
    ("score", "text"),
    [(Score(0.5, None), "50.0 %"), (Score(0.5, None, -1.0), "0.50"), (Score(None, None, -1.0), "-"), (None, "-")],
)
def test_a_kappa_is_not_in_percent(score: Score | None, text: str) -> None:
    assert said(score) == text
