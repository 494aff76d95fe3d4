"""The sections of `probekit probe`: the rows of each, what stands beside the encoder, how it is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from probekit.commands.head import head_row
from probekit.commands.probe_options import SGD, ProbeOptions
from probekit.probe.sources import Labels, Source
from probekit.h5 import read_images
from probekit.output.hints import unprobeable
from probekit.output.png import encoder_name
from probekit.probe import PROTOCOLS
from probekit.probe.average_precision import multilabel
from probekit.probe.cross_validation import FOLDS, METRICS, cross_validate, divide
from probekit.probe.curves import draw_fractions, draw_gallery
from probekit.probe.figure import draw_probe
from probekit.probe.baselines import FLOORS
from probekit.probe.fractions import FRACTIONS, fractions
from probekit.probe.knn import knn, majority
from probekit.probe.protocol import Part, probe
from probekit.probe.retrieval import by_chance, retrieval
from probekit.probe.section_tables import cv_table, fractions_table, knn_table, multilabel_table, retrieval_table
from probekit.probe.spectrum import health
from probekit.probe.table import probe_table
from probekit.restore.opened import RANDOM

CHANCE = "chance"  # of `FLOORS`
MOST_GRADES = 10  # that are named where kappa takes their order
Row = dict[str, Any]
Scores = dict[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Settings:
    """What every row is made with."""

    labels: Labels
    options: ProbeOptions
    protocol: str
    seed: int
    device: str
    console: Console

    def parts(self, source: Source) -> tuple[Part, Part, Part | None]:
        """train, test, and val where it has labels."""
        train, test = (source.part(self.labels, split) for split in ("train", "test"))
        return train, test, source.part(self.labels, "val") if "val" in self.labels.parts else None

    def common(self, source: Source) -> dict[str, Any]:
        """Arguments of all sections that fit a linear probe."""
        protocol = source.protocol or self.protocol
        return {"classes": self.labels.info.classes, "protocol": protocol, "seed": self.seed}


@dataclass(frozen=True)
class Section:
    """A protocol.

    Attributes:
        title: Above its table.
        about: How its numbers are obtained; the protocol and options are filled in.
        row: Of a source.
        table: What is printed of the rows.
        scores: Of a row, what is followed along checkpoints: {name: {value, ci}}.
        floors: Sources that stand beside the encoder: those that make sense and can be afforded.
        needs: Splits that must have labels.
        stem: Begins the names of its files; "" is the section's own name.
        fits: Whether a linear probe is fitted, so that `--protocol` matters.
        draw: (result, PNG), or None.
        own_protocol: The protocol's name in its results where none of the linear probe's is meant, or None.
    """

    title: str
    about: str
    row: Callable[[Source, Settings], Row]
    table: Callable[[Sequence[Mapping[str, Any]]], Table]
    scores: Callable[[Row], Scores] | None
    floors: tuple[str, ...] = (RANDOM, CHANCE, "raw pixels", "patch bag")
    needs: tuple[str, ...] = ("train", "test")
    stem: str = ""
    fits: bool = True
    draw: Callable[[Mapping[str, Any], Path], None] | None = None
    own_protocol: Callable[[Settings], str] | None = None

    def how(self, settings: Settings) -> str:
        """How the numbers were obtained, in words."""
        options, classes = settings.options, settings.labels.info.classes
        grades = (
            " < ".join(classes) if len(classes) <= MOST_GRADES else f"the {len(classes)} classes in the file's order"
        )
        return self.about.format(
            protocol=PROTOCOLS[settings.protocol],
            draws=options.draws,
            folds=options.cv,
            repeats=options.repeats,
            metric=METRICS[options.metric] + (f" (grades: {grades})" if options.metric == "kappa" else ""),
            recipe=options.recipe and options.recipe.summary,
        )

    def protocol(self, name: str, settings: Settings) -> str:
        """The protocol as the results of section `name` say it."""
        if self.own_protocol is not None:
            return self.own_protocol(settings)
        return settings.protocol if self.fits else name


def _linear(source: Source, settings: Settings) -> Row:
    train, test, val = settings.parts(source)
    row = probe(source.name, source.kind, train, test, val=val, **settings.common(source))
    if source.kind == "encoder" or source.name == RANDOM:
        row["health"] = health(test.x) if len(test.x) > 1 else None
    return row


def _sgd(source: Source, settings: Settings) -> Row:
    if source.opened is None:  # chance
        return _multilabel(source, settings) if settings.labels.info.multilabel else _linear(source, settings)
    assert settings.options.recipe is not None
    return head_row(
        source,
        source.opened,
        settings.labels.info,
        settings.options.recipe,
        seed=settings.seed,
        console=settings.console,
    )


def _sgd_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    return multilabel_table(rows) if "map" in rows[0] else probe_table(rows)


def _sgd_protocol(settings: Settings) -> str:
    assert settings.options.recipe is not None
    return f"{SGD}-{settings.options.recipe.title}"


def _fractions(source: Source, settings: Settings) -> Row:
    train, test, _ = settings.parts(source)
    options = settings.options
    shares = options.fractions or FRACTIONS
    return fractions(
        source.name, source.kind, train, test, shares=shares, draws=options.draws, **settings.common(source)
    )


def _knn(source: Source, settings: Settings) -> Row:
    classes = settings.labels.info.classes
    if source.name == CHANCE:
        parts = settings.labels.parts
        return majority(parts["train"].y, parts["test"].y, classes=len(classes), seed=settings.seed)
    train, test, val = settings.parts(source)
    return knn(
        source.name, source.kind, train, test, classes=classes, seed=settings.seed, device=settings.device, val=val
    )


def _retrieval(source: Source, settings: Settings) -> Row:
    if source.name == CHANCE:
        return by_chance(settings.labels.parts["test"].y)
    return retrieval(
        source.name,
        source.kind,
        source.part(settings.labels, "test"),
        classes=settings.labels.info.classes,
        seed=settings.seed,
        device=settings.device,
        factors=settings.labels.factors["test"],
    )


def _cv(source: Source, settings: Settings) -> Row:
    options = settings.options
    return cross_validate(
        source.name,
        source.kind,
        source.part(settings.labels, "train"),
        folds=options.cv or FOLDS,
        repeats=options.repeats,
        metric=options.metric,
        **settings.common(source),
    )


def _multilabel(source: Source, settings: Settings) -> Row:
    k = len(settings.labels.info.classes)
    train, test, val = (part and _of_each_class(part, k) for part in settings.parts(source))
    assert train is not None
    assert test is not None
    return multilabel(source.name, source.kind, train, test, val=val, **settings.common(source))


def _of_each_class(part: Part, k: int) -> Part:
    """Labels `[N, K]`, present or absent, where there is one an image."""
    if part.y.ndim == 2:
        return part
    return replace(part, y=np.eye(k, dtype=np.int64)[part.y])


def _cv_scores(row: Row) -> Scores:
    decoding, metric = next(iter(row["decodings"].items()))
    found = metric[row["metric"]]
    return {f"{row['metric']}, {decoding}": {"value": found["mean"], "ci": found["ci"]}}


def _draw_gallery(result: Mapping[str, Any], path: Path) -> None:
    """The galleries of the first row, with the images of the file that it was made from."""
    row, data = result["rows"][0], Path(result["data"])
    rows = []
    for shown in row["gallery"]:
        numbers = [shown["query"], *shown["positive"], *shown["negative"]]
        images = read_images(data, "test", numbers).images
        rows.append((images, [row["labels"][i] == row["labels"][numbers[0]] for i in numbers[1:]]))
    draw_gallery(rows, title=f"{encoder_name(result)} on {result['data']}: 3 nearest, and ranks 18 to 20", path=path)


SECTIONS: dict[str, Section] = {
    "linear": Section(
        "Linear probe",
        "Logistic regression on frozen features, protocol {protocol}; fitted on train, scored once on test; intervals: "
        "accuracies 95 % Wilson over test images (of balanced accuracy and macro F1 percentile bootstrap, of log-loss "
        "Student t).",
        _linear,
        probe_table,
        lambda row: {"linear": {"value": row["accuracy"], "ci": row["ci"]}},
        floors=(RANDOM, *FLOORS),
        stem="probe",
        draw=draw_probe,
    ),
    SGD: Section(
        "Linear head by SGD",
        "A linear head on randomly cropped and mirrored images: {recipe}. Scored on test after the last epoch; "
        "intervals: 95 % over test images.",
        _sgd,
        _sgd_table,
        None,
        floors=(RANDOM, CHANCE),
        stem="probe",
        own_protocol=_sgd_protocol,
    ),
    "multilabel": Section(
        "Mean average precision",
        "One logistic probe a class, protocol {protocol}, fitted on train, difficult labels left out; mean average "
        "precision on test; intervals: 95 % percentile bootstrap over test images.",
        _multilabel,
        multilabel_table,
        lambda row: {"mAP, VOC2010": row["map"]["voc2010"]},
        floors=(RANDOM, CHANCE),  # photographs have no ink, and raw pixels would be fitted once a class
    ),
    "fractions": Section(
        "Linear probe on fractions of the labels",
        "Linear probe, protocol {protocol}, fitted on stratified nested subsets of train, {draws} draws of each size; "
        "accuracy on test; intervals: 95 % Student t over draws, with all labels 95 % Wilson over test images; sample "
        "complexity: 95 % percentile bootstrap over draws.",
        _fractions,
        fractions_table,
        None,
        draw=draw_fractions,
    ),
    "knn": Section(
        "Nearest neighbours",
        "Weighted k nearest neighbours in train by cosine, weights exp(cosine / T); k and T chosen on validation; "
        "accuracy on test; intervals: 95 % Wilson over test images.",
        _knn,
        knn_table,
        lambda row: {"kNN": {"value": row["accuracy"], "ci": row["ci"]}},
        fits=False,
    ),
    "retrieval": Section(
        "Retrieval",
        "Each test image asks all others by cosine; relevant: the same class; means over queries with a relevant "
        "image; chance: exact, of a random ranking; intervals: 95 % percentile bootstrap over queries.",
        _retrieval,
        retrieval_table,
        lambda row: {"rank-1": row["scores"]["rank1"], "mAP": row["scores"]["map"]},
        needs=("test",),
        fits=False,
        draw=_draw_gallery,
    ),
    "cv": Section(
        "Cross-validation on train",
        "Linear probe, protocol {protocol}, {repeats} x {folds}-fold cross-validation on train, stratified; {metric}; "
        "intervals: 95 % Nadeau-Bengio over folds; of pooled out-of-fold values 95 % percentile bootstrap over images.",
        _cv,
        cv_table,
        _cv_scores,
        floors=(RANDOM, CHANCE),  # others have more features than there are images: 25 fits take minutes
        needs=("train",),
    ),
}


def sections_for(run: str, labels: Labels, options: ProbeOptions) -> list[str]:
    """Which sections a dataset file and the options ask for; the linear probe wherever it is possible.

    Args:
        run: What names it on a command line, as a shell takes it, for messages.
        labels: Of the dataset file.
        options: What was asked for.

    Raises:
        ValueError: If the file lacks what one needs, or none is possible.
    """
    info, asked = labels.info, options.sections
    lacking = unprobeable(info)
    if lacking is None:
        first = SGD if options.recipe else "multilabel" if info.multilabel else "linear"
        asked = list(dict.fromkeys((first, *asked)))
    elif options.recipe or not asked:
        raise ValueError(
            f"expected a train and a test split with labels of 2 classes or more, found {lacking} in "
            f"{info.path}; type: probekit probe {run} --data LABELLED.h5 "
            "(probekit import SOURCE --test-fraction 0.2 makes one)"
        )
    for name in asked:
        missing = [split for split in SECTIONS[name].needs if split not in labels.parts]
        if missing:
            raise ValueError(f"expected labels in the split {missing[0]} for --{name}, found none in {info.path}")
        if name == "cv":  # refuses more folds than can be filled
            part = labels.parts["train"]
            divide(part.y, folds=options.cv or FOLDS, seed=0, repeat=0, groups=part.groups)
        if info.multilabel and name not in ("multilabel", SGD):
            raise ValueError(f"expected one label an image for --{name}, found several in {info.path}")
    if options.every and not any(SECTIONS[name].scores for name in asked):
        raise ValueError(
            f"expected something to follow with --every, found only {' and '.join(asked)}; "
            f"type: probekit probe {run} --every --protocol {next(iter(PROTOCOLS))}"
        )
    return asked
