"""A linear head that is trained by SGD on augmented images, as the papers do it."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from probekit import measurement as m
from probekit.output.document import Chart, Table, count, percent
from probekit.probes.measurements.base import Probe, answer_scores, other
from probekit.probes.measurements.linear import answer_charts, answer_sentences, answer_table, counts_table
from probekit.probes.measurements.multilabel import FIRST, precision_scores, precision_tables
from probekit.weights import RANDOM

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probekit.probes.measure import Conditions, Source


@dataclass(frozen=True)
class Recipe:
    """How a head is trained."""

    name: str
    epochs: int
    batch_size: int
    lr: float  # of the head, at the start
    encoder_lr: float = 0.0  # at the start; 0 leaves it frozen, in eval mode
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "constant"  # or "cosine", to 0, or "steps", a tenth after 60 % and after 80 % of epochs
    unit_length: bool = False  # whether features are scaled to length 1 first
    adam: bool = False  # in place of SGD; it has no momentum to set
    zoom: tuple[float, float] | None = None  # views are zoomed by so much, and mirrored both ways, in place of cropped
    ordinal: bool = False  # grade k of K is learned as k + 1 ones, each with a cross-entropy of its own

    @property
    def title(self) -> str:
        """The name, with the epochs and the rate where they are not those of `RECIPES`: results of both have files."""
        own = self == RECIPES[self.name]
        return self.name if own else f"{self.name}-{self.epochs}-epochs-lr-{self.lr:g}"

    @property
    def summary(self) -> str:
        """All of it in a line."""
        encoder = f"the encoder too (lr {self.encoder_lr:g})" if self.encoder_lr else "frozen encoder"
        length = ", features of length 1" if self.unit_length else ""
        momentum = f", {'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}"
        optimizer = f"{'Adam' if self.adam else 'SGD'}, lr {self.lr:g}, {self.schedule}{'' if self.adam else momentum}"
        views = "crops" if self.zoom is None else f"zoom {self.zoom[0]:g} to {self.zoom[1]:g}, black around"
        targets = ", ordinal targets" if self.ordinal else ""
        return (
            f"{encoder}{length}; {optimizer}, weight decay {self.weight_decay:g}, {self.epochs} epochs of batches of "
            f"{self.batch_size}; {views}, mirrored{' both ways' if self.zoom else ''}{targets}"
        )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # ConRec, table 2, Flowers: authors' code; for Dogs --lr 0.01 --epochs 500
        Recipe("conrec", epochs=400, batch_size=64, lr=0.1, nesterov=True),
        # XCorr, supplement, section 1.3: the linear head
        Recipe("xcorr", epochs=100, batch_size=256, lr=0.3, weight_decay=1e-4, schedule="cosine"),
        # LCR authors' code: lr 30 belongs to features of length 1
        Recipe("lcr", epochs=100, batch_size=256, lr=30.0, schedule="steps", unit_length=True),
        # XCorr, section 3.3; the text leaves the optimizer open: that of its linear head
        Recipe("voc", epochs=10, batch_size=16, lr=0.05, encoder_lr=1.5e-4, weight_decay=1e-4, schedule="cosine"),
        # ConRec, table 2, APTOS from random weights: authors' code
        Recipe("aptos", 25, 32, lr=5e-5, encoder_lr=5e-5, adam=True, zoom=(0.85, 1.15), ordinal=True),
    )
}


class Best(TypedDict):
    score: m.Share
    epoch: m.Count


class SGDRow(m.Named):
    """A row as of the linear probe, or of several labels an image; chance has no epochs."""

    n: m.Count
    dim: m.Count
    accuracy: NotRequired[m.Share]
    ci: NotRequired[m.Interval]
    map: NotRequired[dict[str, m.Estimate]]
    classes: list[str]
    by_epoch: NotRequired[list[m.Number]]
    best_test: NotRequired[Best]
    labels: NotRequired[list[Any]]
    predicted: NotRequired[list[int]]


@dataclass(frozen=True)
class SGD(Probe):
    recipe: str = m.option(
        "conrec",
        "--sgd",
        "Also train a linear head by SGD, as a paper does; aptos and voc train the encoder as well.",
        asks=True,
        choices=tuple(RECIPES),
    )
    epochs: int | None = m.option(None, "--epochs", "The epochs of --sgd in place of its recipe's.", least=1)
    lr: float | None = m.option(None, "--lr", "The head's learning rate of --sgd in place of its recipe's.")

    name = "sgd"
    title = "Linear head by SGD"
    about = (
        "A linear head on augmented images: {summary}. Scored on test after the last epoch; "
        "intervals: 95 % over test images."
    )
    shape = SGDRow
    baselines = (RANDOM, m.CHANCE)
    several = True
    followable = False
    offered = False  # it takes minutes
    names = ("SGD head", "SGD head, top-5", "SGD head, best on test")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"expected a learning rate above 0, found {self.lr:g}; leave --lr out for the recipe's")

    @property
    def chosen(self) -> Recipe:
        """The recipe, with what the user wants otherwise."""
        found = RECIPES[self.recipe]
        return replace(found, epochs=self.epochs or found.epochs, lr=self.lr or found.lr)

    def check(self, conditions: "Conditions") -> None:
        if self.chosen.ordinal and conditions.labels.info.multilabel:
            raise ValueError(
                f"expected one grade an image for --sgd {self.recipe}, found several labels; type: --sgd voc"
            )

    def how(self, conditions: "Conditions") -> str:
        return self.about.format(summary=self.chosen.summary)

    def protocol(self, conditions: "Conditions") -> str:
        return self.chosen.title

    def row(self, source: "Source", conditions: "Conditions") -> dict[str, Any]:
        if source.opened is None:  # chance
            plain = "multilabel" if conditions.labels.info.multilabel else "linear"
            row = other(conditions, plain).row(source, conditions)
            return {key: value for key, value in row.items() if key != "factors"}
        return _row(source, conditions, self.chosen)

    def tables(self, result: m.Result) -> list[Table]:
        if "map" in m.encoder_row(result):
            return precision_tables(result, self.title)

        columns = {
            "best on test %": lambda row: percent(row.get("best_test", {}).get("score")),
            "at epoch": lambda row: count(row.get("best_test", {}).get("epoch")),
        }
        return [answer_table(result, self.title, columns), *counts_table(result)]

    def charts(self, result: m.Result) -> list[Chart]:
        return [] if "map" in m.encoder_row(result) else answer_charts(result)

    def sentences(self, result: m.Result) -> list[str]:
        row = m.encoder_row(result)
        best, last = row["best_test"], len(row["by_epoch"])
        line = f"Best epoch on test (as the papers choose): {100 * best['score']:.1f} % at {best['epoch']} of {last}."
        first = [] if "map" in row else answer_sentences(result)[:1]
        return [*(told.replace("linear probe, protocol", "SGD head, recipe") for told in first), line]

    def scores(self, row: m.Row) -> dict[str, m.Score]:
        found = {"SGD head": precision_scores(row)[f"mAP, {FIRST}"]} if "map" in row else answer_scores("SGD head", row)
        best = {"SGD head, best on test": m.Score(row["best_test"]["score"], None)} if "best_test" in row else {}
        return found | best


def _row(source: "Source", conditions: "Conditions", recipe: Recipe) -> dict[str, Any]:
    from probekit.data.split import open_split
    from probekit.output.terminal import progress_bar
    from probekit.probes.head import class_logits, train_head

    assert source.opened is not None
    opened, info = source.opened, conditions.labels.info
    size = opened.header["max_size"]
    how: dict[str, Any] = {"max_size": size, "crop": info.first.crop}
    train = open_split(info.path, "train", opened.device, cut=True, **how)
    test = open_split(info.path, "test", opened.device, **how)
    assert train.split.labels is not None
    assert test.split.labels is not None
    truth = test.split.labels
    with progress_bar(f"{source.name}, {recipe.epochs} epochs", conditions.console) as advance:
        trained = train_head(
            opened.encoder,
            (train.images, train.split.labels),
            test.images,
            classes=len(info.classes),
            recipe=recipe,
            seed=conditions.seed,
            score=partial(_map if info.multilabel else _accuracy, truth=truth),
            progress=advance,
            among=conditions.among,
        )
    best = max(range(len(trained.scores)), key=lambda epoch: (trained.scores[epoch], epoch))  # of ties the later
    known = len(train) if conditions.among is None else int(conditions.among.sum())
    return {
        "name": source.name,
        "kind": source.kind,
        **_scored(class_logits(trained.logits, recipe), truth, conditions),
        "classes": list(info.classes),
        "n_train": known,
        "dim": trained.dim,
        "recipe": asdict(recipe),
        "losses": trained.losses,
        "by_epoch": trained.scores,
        "best_test": {"score": trained.scores[best], "epoch": best + 1},
    }


def _scored(found: "NDArray[np.float32]", truth: Any, conditions: "Conditions") -> dict[str, Any]:
    """The scores of logits `[N, K]`, with what they were computed from."""
    import numpy as np
    from scipy.special import log_softmax

    from probekit.probes.average_precision import score_logits
    from probekit.probes.scores import evaluate

    logits, info = found.astype(np.float64), conditions.labels.info
    kept: dict[str, Any] = {"labels": truth.tolist()}
    if info.multilabel:
        precision = score_logits(logits, truth, classes=info.classes, seed=conditions.seed)
        return {**precision, **kept, "scores": [[float(f"{v:.6g}") for v in row] for row in logits]}
    rated = evaluate(log_softmax(logits, axis=1), truth, seed=conditions.seed)
    return {**rated, "note": "", **kept, "predicted": logits.argmax(axis=1).tolist()}


def _accuracy(logits: Any, truth: Any) -> float:
    return float((logits.argmax(axis=1) == truth).mean())


def _map(logits: Any, truth: Any) -> float:
    """Mean average precision over the classes with a positive image."""
    import numpy as np

    from probekit.probes.average_precision import average_precision

    values = []
    for score, labels in zip(logits.T, truth.T, strict=True):
        known = labels <= 1
        if (labels == 1).any():
            values.append(float(average_precision(score[known], labels[known] == 1)[FIRST][0]))
    return float(np.mean(values)) if values else 0.0
