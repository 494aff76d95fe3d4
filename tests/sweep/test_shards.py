"""Shards drawn by the jobs of a real Slurm of two nodes (cluster.py) are those that this machine draws.

Alone: pytest tests/sweep/test_shards.py
"""

from pathlib import Path

import pytest

from probekit.data.generate import generate, generate_shards
from probekit.h5 import read_info
from tests.sweep.cluster import cluster, lacking, wait_for
from tests.typed import typed

WORDS = ("gen", "rect-tri", "--n", "40", "--n-test", "8", "--size", "16", "--shards", "4", "--out", "set.h5")
SLURM = ("--engine", "slurm", "--slurm", "time=30", "--slurm", "partition=cpu")


def test_slurm_draws_the_missing_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := lacking():
        pytest.skip(why)
    with cluster() as found:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, found.environment[name])
        generate("rect-tri", out=tmp_path / "set.h5", n=40, n_test=8, size=16, shard=(2, 4))
        done = typed(*WORDS, *SLURM, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ": 3 of 4 shards; what they print is in set-slurm" in done.stdout
        wait_for(lambda: len(list((tmp_path / "set.h5").glob("*.h5"))) == 4, "the shards")
        again = typed(*WORDS, *SLURM, cwd=tmp_path)
        assert "job" not in again.stdout
        refused = typed(*WORDS, *SLURM, "--seed", "1", cwd=tmp_path)
        assert refused.returncode == 1
        assert "of others" in refused.stderr
    here = generate_shards("rect-tri", 4, out=tmp_path / "here.h5", n=40, n_test=8, size=16)
    assert read_info(tmp_path / "set.h5").content_hash == here.content_hash
    for path in (tmp_path / "here.h5").iterdir():
        assert (tmp_path / "set.h5" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--engine", "slurm"), "expected --shards N with --engine slurm"),
        (("--slurm", "time=30"), "expected --engine slurm with --slurm"),
        (("--shards", "4", "--engine", "slurm"), "type: --slurm time=4:00:00"),
        (("--shards", "4", "--shard", "1/4"), "expected --shard alone"),
        (("--shard", "5/4"), "found '5/4'"),
        (("--shards", "9", "--n", "3", "--n-test", "0"), "at most as many shards as images, 3, found 9"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    done = typed("gen", "rect-tri", "--size", "16", "--out", "x.h5", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
