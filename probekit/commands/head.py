"""`probekit probe --protocol sgd`: a row for a head that is trained by SGD on augmented images."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import log_softmax

from probekit.probe.sources import Source
from probekit.data.split import open_split
from probekit.h5 import DatasetInfo
from probekit.output.progress import progress_bar
from probekit.probe.average_precision import average_precision, score_logits
from probekit.probe.head import Recipe, Trained, train_head
from probekit.probe.scores import evaluate
from probekit.restore.opened import Opened

FORM = "voc2010"  # of the mean average precision that is followed along the epochs


def head_row(
    source: Source, opened: Opened, info: DatasetInfo, recipe: Recipe, *, seed: int, console: Console
) -> dict[str, Any]:
    """Trains a head on a network's features and scores it on test.

    Args:
        source: Gives the row its name and kind.
        opened: The network.
        info: A dataset file with labels in train and test, one or several an image.
        recipe: How the head is trained.
        seed: Of its first weights, order, crops, and of bootstraps.
        console: For the progress.

    Returns:
        The keys of `protocol.probe`'s row, or with several labels an image of `average_precision.multilabel`'s, C None;
        and recipe, losses and by_epoch (scores), best_test {"score", "epoch"}: chosen on test, as the papers do.
    """
    size = opened.header["max_size"]
    train, test = (open_split(info.path, name, opened.device, max_size=size) for name in ("train", "test"))
    assert train.split.labels is not None
    assert test.split.labels is not None
    truth = test.split.labels
    with progress_bar(f"{source.name}, {recipe.epochs} epochs", console) as advance:
        trained = train_head(
            opened.encoder,
            (train.images, train.split.labels),
            test.images,
            classes=len(info.classes),
            recipe=recipe,
            seed=seed,
            score=partial(_map if info.multilabel else _accuracy, truth=truth),
            progress=advance,
        )
    logits = trained.logits.astype(np.float64)
    if info.multilabel:
        scored = score_logits(logits, truth, classes=info.classes, seed=seed)
        kept = {"labels": truth.tolist(), "scores": [[float(f"{v:.6g}") for v in row] for row in logits]}
    else:
        scored = {**evaluate(log_softmax(logits, axis=1), truth, seed=seed), "C": None, "note": "", "factors": {}}
        kept = {"labels": truth.tolist(), "predicted": logits.argmax(axis=1).tolist()}
    return {
        "name": source.name,
        "kind": source.kind,
        **scored,
        "classes": list(info.classes),
        "solver": recipe.summary,
        "n_iter": recipe.epochs * -(-len(train) // recipe.batch_size),
        "n_train": len(train),
        "dim": trained.dim,
        **_epochs(recipe, trained),
        **(kept if source.kind == "encoder" or not info.multilabel else {}),
    }


def _epochs(recipe: Recipe, trained: Trained) -> dict[str, Any]:
    """What happened on the way; ties go to the later epoch."""
    best = max(range(len(trained.scores)), key=lambda epoch: (trained.scores[epoch], epoch))
    return {
        "recipe": asdict(recipe),
        "losses": trained.losses,
        "by_epoch": trained.scores,
        "best_test": {"score": trained.scores[best], "epoch": best + 1},
    }


def _accuracy(logits: NDArray[np.float32], truth: NDArray[Any]) -> float:
    return float((logits.argmax(axis=1) == truth).mean())


def _map(logits: NDArray[np.float32], truth: NDArray[Any]) -> float:
    """Mean average precision over the classes with a positive image."""
    values = []
    for score, labels in zip(logits.T, truth.T, strict=True):
        known = labels <= 1
        if (labels == 1).any():
            values.append(float(average_precision(score[known], labels[known] == 1)[FORM][0]))
    return float(np.mean(values)) if values else 0.0
