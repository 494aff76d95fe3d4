"""What is measured of a finished run: the linear probe, and what `[measure]` of a sweep file asks for beside it.

Both stand beside the monitor, whose scores are in metrics.jsonl (docs/protocols.md). Each step is one command, and the
scores that it leaves in the run's folder, by name: CHECKPOINT/SCORE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from probekit.checked import checked
from probekit.files import read_json
from probekit.h5 import SPLITS
from probekit.measurement import Measurement, Row, Score, encoder_row, measurement, read_result
from probekit.probes import SIGNED
from probekit.registry import MEASUREMENTS, POOLS, check_named, get
from probekit.run import Run
from probekit.weights import LAST, Weights

LINEAR = "linear"  # measured of every run, unless its images have several labels

FIRST = f"last/{LINEAR}"
BEST_TEST = "best_test/monitor"
# checkpoint/score: what a table calls it. A run has these unless its images have no test labels, or `[measure]` of the
# sweep file leaves the linear probe out; it adds others.
SCORES = {
    FIRST: "last, linear probe",
    "last/monitor": "last, monitor",
    "best_val/monitor": "best_val, monitor",
    BEST_TEST: "best_test, monitor (as the papers choose)",
}


@dataclass(frozen=True)
class Measure:
    """What a sweep file asks for beside the linear probe."""

    asked: tuple[Measurement, ...] = ()
    pools: tuple[str, ...] = ()  # further poolings, as `--pool`, of all that is measured
    linear: bool = True  # whether the linear probe is measured; never where `asked` has one that replaces it
    also: tuple[str, ...] = ()  # names of numbers to be kept beside the main scores: those of a paper

    @property
    def every(self) -> list[Measurement]:
        """All that is measured, the linear probe first."""
        replaced = any(LINEAR in each.replaces for each in self.asked)
        first = [measurement(LINEAR)] if self.linear and not replaced else []
        return [*first, *(each for each in self.asked if each.name != LINEAR)]

    @property
    def needs(self) -> list[str]:
        """Splits that must have labels."""
        return [split for split in SPLITS if any(split in each.needs for each in self.every)]

    @property
    def steps(self) -> "list[Step]":
        """One after another; the first is the probe under the encoder's own pooling."""
        commands = dict.fromkeys(each.command for each in self.every)
        found = []
        for command in commands:
            for pool in (None, *self.pools):
                own = tuple(each for each in self.every if each.command == command and each.allows(pool))
                found += [Step(command, own, pool, self.also)] if own else []
        return found

    def without_evidence(self) -> "Measure":
        """The same without what says nothing of images without evidence."""
        kept = (each for each in self.asked if not each.needs_evidence)
        return replace(self, asked=tuple(kept))


@dataclass(frozen=True)
class Step:
    """Measurements of one command under one pooling."""

    command: str
    asked: tuple[Measurement, ...]
    pool: str | None
    also: tuple[str, ...] = ()

    def words(self, run: str, device: str, *, baselines: bool = False) -> list[str]:
        """Arguments of `probekit`."""
        typed = [word for each in self.asked for word in each.words]
        few = ["--no-baselines"] if self.command == "probe" and not baselines else []
        pooled = [] if self.pool is None else ["--pool", self.pool]
        return [self.command, run, *few, *typed, *pooled, "--device", device]

    def read(self, run: Run, *, epochs: int) -> dict[str, Score] | None:
        """Its scores by name, `CHECKPOINT/SCORE`; None if the run lacks one of its last epoch."""
        weights = Weights(pool=self.pool)
        scores: dict[str, Score] = {}
        for each in self.asked:
            result = find_result(run, each, weights, epochs=epochs, asked=self.asked)
            if result is None:
                return None
            found = each.encoder_scores(result, main=True, also=self.also).items()
            scores |= {f"{weights}/{name}": score for name, score in found if score.value is not None}
        return scores


def baseline_rows(result: Mapping[str, Any] | None, reader: Measurement) -> list[Row]:
    """What stands beside the encoder in a result."""
    own = [row["name"] for row in reader.encoder_rows(result)] if result else []
    return [row for row in result["rows"] if row["name"] not in own] if result else []


def find_result(
    run: Run,
    reader: Measurement,
    weights: Weights,
    *,
    epochs: int,
    protocol: str = "tuned",
    asked: Sequence[Measurement] = (),
) -> dict[str, Any] | None:
    """The result of a measurement with these options, of weights of the run's last epoch on its own data; or None.

    `asked` are those that were measured with it: some are made of others.
    """
    settled = reader.settled({each.name: each for each in asked})
    for path in sorted(run.results.glob(f"{reader.name}-*.json")) + sorted(run.results.glob(f"{reader.name}.json")):
        content = _read(path, path.stat().st_mtime_ns, reader.schema())
        if (
            content is not None
            and content["options"] == settled
            and (content["checkpoint"], content["epoch"], content["seed"]) == (str(weights), epochs, 0)
            and (reader.own_images or content["data_hash"] == run.read()["dataset"]["hash"])
            and ("fixed" in content["protocol"].split("-")) == (protocol == "fixed")
        ):
            return content
    return None


def read_measure(content: Mapping[str, Any], where: str) -> Measure:
    """The table `[measure]` of a sweep file: a measurement's name = true, false or a table of its options; `pools`."""
    pools = checked(content.get("pools", []), tuple[str, ...], where)
    for pool in pools:
        check_named("pooling", pool, POOLS, f" (in {where})")
    check_distinct(pools, f"pools in {where}")
    asked = (_read_one(name, options, where) for name, options in content.items() if name != "pools")
    plain = content.get(LINEAR) is not False
    found = Measure(tuple(each for each in asked if each is not None), pools, plain)
    if not found.every:
        raise ValueError(f"expected something to measure in {where}, found {LINEAR} = false alone")
    return found


def check_distinct(values: Sequence[Any], where: str) -> None:
    """Refuses values that stand twice."""
    seen = set[Any]()
    for value in values:
        if value in seen:
            raise ValueError(f"expected different {where}, found {value!r} twice")
        seen.add(value)


def _read_one(name: str, options: Any, where: str) -> Measurement | None:
    """A measurement with its options; None where it is false."""
    check_named("measurement", name, MEASUREMENTS, f" (in {where})")
    if options is False:
        return None
    kind, within = get(MEASUREMENTS, "measurement", name), f"[measure.{name}] of {where}"
    given = {} if options is True else checked(options, dict[str, Any], within)
    known = [part.name for part in fields(kind)]
    for key in given:
        check_named("option", key, known, f" (in {within})")
    found: Measurement = checked(given, kind, within)
    return found


def under_pool(score: str, pool: str | None) -> str:
    """The same score under a pooling: `last/linear` -> `last@branch/linear`."""
    checkpoint, _, what = score.partition("/")
    return f"{Weights(checkpoint, pool)}/{what}"


def without_pool(score: str) -> tuple[str, str | None]:
    """The inverse: `last@branch/linear` -> (`last/linear`, "branch")."""
    weights, _, what = score.partition("/")
    found = Weights.parse(weights)
    return f"{found.checkpoint}/{what}", found.pool


def split_pooled(text: str) -> tuple[str, str | None]:
    """A row and its pooling, None the encoder's own: "a@branch" -> ("a", "branch"); names of rows have no "@"."""
    row, at, pool = text.partition("@")
    return row, pool if at else None


@lru_cache(maxsize=4096)
def _read(path: Path, changed: int, schema: str) -> dict[str, Any] | None:
    """A sound result of a schema, or None; a sweep asks for each many times."""
    try:
        content = read_json(path)
        return content if content.get("schema") == schema and read_result(content) else None
    except (OSError, ValueError):
        return None


def title(score: str) -> str:
    """What a table calls a score without a pooling, e.g. "last/rank-1"."""
    return SCORES.get(score) or score.partition("/")[2]


def read_scores(run: Run, *, epochs: int, measure: Measure) -> dict[str, Score] | None:
    """Scores by name, or None if one is missing that is to be measured at the run's last epoch.

    Scores that the data do not allow (no validation part, no test labels) are left out. Ties go to the later epoch, as
    in training.
    """
    if not run.json.exists():
        return None
    measured = [step.read(run, epochs=epochs) for step in measure.steps]
    lines = [line for line in run.read_metrics() if line["epoch"] <= epochs]
    scored = [line for line in lines if "test" in line]
    if None in measured or not lines or (scored or lines)[-1]["epoch"] != epochs:
        return None
    found = {name: value for scores in measured if scores for name, value in scores.items()}
    if not scored:
        return found
    train = run.read()["config"].get("train")
    low = -1.0 if isinstance(train, Mapping) and train.get("monitor") in SIGNED else 0.0
    found["last/monitor"] = Score(scored[-1]["test"], None, low)
    validated = [line for line in scored if "val" in line]
    if validated:
        found["best_val/monitor"] = Score(_latest_best(validated, "val")["test"], None, low)
    found[BEST_TEST] = Score(_latest_best(scored, "test")["test"], None, low)
    return found


def read_factors(run: Run, *, epochs: int) -> dict[str, Score]:
    """Accuracy of the linear probe of each class factor."""
    result = find_result(run, measurement(LINEAR), LAST, epochs=epochs) if run.json.exists() else None
    factors = encoder_row(result)["factors"] if result else {}
    return {name: Score(found["accuracy"], None) for name, found in factors.items() if found["accuracy"] is not None}


def _latest_best(lines: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return max(lines, key=lambda line: (line[name], line["epoch"]))
