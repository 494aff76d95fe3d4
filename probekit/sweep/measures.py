"""What is measured of a finished run: the linear probe, and what `[measure]` of a sweep file asks for beside it.

Each measurement is one command, and the scores that it leaves in the run's folder, by name: CHECKPOINT/WHAT.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from probekit.files import read_json
from probekit.h5.schema import EVIDENCE
from probekit.registry import POOLS, nearest
from probekit.run import Run
from probekit.sweep.toml import Table, check_distinct
from probekit.weights import Weights

MAP_OPTIONS = ("--look", "attention", "--passes", "0")  # the weights themselves, of 200 images
RETRIEVAL = {"rank-1": "rank1", "mAP": "map"}  # score: its name in a retrieval result
MAPS = {"map-rank": "rank", "map-auroc": "auroc"}  # score: its name in a heatmap result


@dataclass(frozen=True)
class Measure:
    """What a sweep file asks for beside the linear probe.

    Attributes:
        retrieval: Retrieval of test images by each other.
        pools: Further poolings, as `--pool`: what is measured under the encoder's own is measured under these, too.
        heatmap: The weights of those poolings that have some, against the evidence.
    """

    retrieval: bool = False
    pools: tuple[str, ...] = ()
    heatmap: bool = False

    @property
    def weighing(self) -> list[str]:
        """Poolings whose weights are looked at."""
        return [pool for pool in self.pools if self.heatmap and POOLS[pool].weighs]

    @property
    def steps(self) -> "list[Measurement]":
        """One after another; the first is the probe under the encoder's own pooling."""
        probes = [Probe(pool, self.retrieval) for pool in (None, *self.pools)]
        return [*probes, *(Heatmap(pool) for pool in self.weighing)]


class Measurement(Protocol):
    """A command and its scores."""

    def command(self, run: str, device: str) -> list[str]:
        """Arguments of `probekit`."""

    def read(self, run: Run, *, epochs: int) -> dict[str, float] | None:
        """Its scores by name, in [0, 1]; None if the run has none of its last epoch."""


@dataclass(frozen=True)
class Probe:
    """The linear probe without floors, and retrieval if asked for."""

    pool: str | None
    retrieval: bool

    def command(self, run: str, device: str) -> list[str]:
        """Arguments of `probekit`."""
        further = ["--retrieval"] if self.retrieval else []
        return ["probe", run, "--protocol", "val", "--no-floors", *_typed(self.pool), *further, "--device", device]

    def read(self, run: Run, *, epochs: int) -> dict[str, float] | None:
        """`CHECKPOINT/val`, and of retrieval `CHECKPOINT/rank-1` and `CHECKPOINT/mAP`."""
        checkpoint = str(Weights(pool=self.pool))
        linear = read_probe(run, "val", epochs=epochs, pool=self.pool)
        found = read_retrieval(run, epochs=epochs, pool=self.pool) if self.retrieval else None
        if linear is None or (self.retrieval and found is None):
            return None
        scores = {f"{checkpoint}/val": linear["rows"][0]["accuracy"]}
        return scores | _named(checkpoint, retrieval_scores(found["rows"][0]) if found else {})


@dataclass(frozen=True)
class Heatmap:
    """The weights of a pooling against the evidence of each class factor."""

    pool: str

    def command(self, run: str, device: str) -> list[str]:
        """Arguments of `probekit`."""
        return ["heatmap", run, *MAP_OPTIONS, *_typed(self.pool), "--device", device]

    def read(self, run: Run, *, epochs: int) -> dict[str, float] | None:
        """`CHECKPOINT/map-auroc:FACTOR` and `CHECKPOINT/map-rank:FACTOR`."""
        found = read_heatmap(run, epochs=epochs, pool=self.pool)
        if found is None:
            return None
        row = next(row for row in found["rows"] if row["kind"] == "look")
        scores = {name: score["mean"] for name, score in heatmap_scores(row).items()}
        return _named(str(Weights(pool=self.pool)), scores)


def read_measure(table: Table) -> Measure:
    """The table `[measure]` of a sweep file.

    Raises:
        ValueError: If there is no such pooling, or another key is there.
    """
    pools = table.strings("pools")
    for pool in pools:
        if pool not in POOLS:
            raise ValueError(f"{nearest('pooling', pool, POOLS)} (in {table.where})")
    check_distinct(pools, f"pools in {table.where}")
    found = Measure(table.take("retrieval", bool, False), pools, table.take("heatmap", bool, False))
    table.done()
    return found


def under_pool(score: str, pool: str | None) -> str:
    """The same score under a pooling: `last/val` -> `last@branch/val`."""
    checkpoint, _, what = score.partition("/")
    return f"{Weights(checkpoint, pool)}/{what}"


def without_pool(score: str) -> tuple[str, str | None]:
    """The inverse: `last@branch/val` -> (`last/val`, "branch")."""
    weights, _, what = score.partition("/")
    found = Weights.parse(weights)
    return f"{found.checkpoint}/{what}", found.pool


def split_pooled(text: str) -> tuple[str, str | None]:
    """A row and its pooling, None the encoder's own: "a@branch" -> ("a", "branch"); names of rows have no "@"."""
    row, at, pool = text.partition("@")
    return row, pool if at else None


def read_probe(run: Run, protocol: str, *, epochs: int, pool: str | None = None) -> dict[str, Any] | None:
    """The contents of `results/probe-PROTOCOL-CHECKPOINT.json`, or None if there is none of the run's last epoch."""
    return _read(run, f"probe-{protocol}-{Weights(pool=pool)}", epochs)


def read_retrieval(run: Run, *, epochs: int, pool: str | None = None) -> dict[str, Any] | None:
    """The contents of `results/retrieval-CHECKPOINT.json`, likewise."""
    return _read(run, f"retrieval-{Weights(pool=pool)}", epochs)


def read_heatmap(run: Run, *, epochs: int, pool: str) -> dict[str, Any] | None:
    """The result of the sweep's own command; a user's other heatmaps of the run may stand under the name before it."""
    checkpoint = str(Weights(pool=pool))
    asked = [*MAP_OPTIONS, "--checkpoint", checkpoint]
    for path in sorted(run.results.glob(f"heatmap-{checkpoint}*.json")):
        found = _read(run, path.stem, epochs)
        words = shlex.split(found.get("command", ""))[3:] if found else []  # after probekit heatmap RUN
        if words[: len(asked)] == asked and words[len(asked) :][:1] in ([], ["--device"]):
            return found
    return None


def retrieval_scores(row: Mapping[str, Any]) -> dict[str, float]:
    """By the names of sweeps; those that no query defines are left out."""
    values = {name: row["scores"][key]["value"] for name, key in RETRIEVAL.items()}
    return {name: value for name, value in values.items() if value is not None}


def heatmap_scores(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{SCORE:FACTOR: {mean, ci, n, ...}} of a row of a heatmap; undefined ones are left out.

    A ceiling counts against its own factor's evidence alone.
    """
    return {
        f"{name}:{factor}": scores[key]
        for mask, scores in row["scores"].items()
        if mask.startswith(EVIDENCE) and row["target"] in ("", factor := mask.removeprefix(EVIDENCE))
        for name, key in MAPS.items()
        if scores[key]["mean"] is not None
    }


def _read(run: Run, stem: str, epochs: int) -> dict[str, Any] | None:
    try:
        content = read_json(run.results / f"{stem}.json")
        fits = content["epoch"] == epochs and content["seed"] == 0 and content["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if fits else None


def _typed(pool: str | None) -> Sequence[str]:
    return () if pool is None else ("--pool", pool)


def _named(checkpoint: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{checkpoint}/{name}": value for name, value in scores.items()}
