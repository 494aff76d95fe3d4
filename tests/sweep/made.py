"""Results as `probekit probe` and `heatmap` write them, of made-up numbers."""

from typing import Any

from probekit.measurement import measurement

ENCODER, CHANCE = ("it", "encoder"), ("chance", "baseline")


def result(name: str, rows: list[dict[str, Any]], *, data_hash: str, epoch: int, **more: Any) -> dict[str, Any]:
    """A results file of a measurement."""
    reader = measurement(name)
    about: dict[str, Any] = dict.fromkeys(("run", "data", "how", "command"), "")
    about |= {"schema": reader.schema(), "data_hash": data_hash, "protocol": name, "checkpoint": "last"}
    if name == "heatmap":
        about |= {"target": None, "fill": "black", "masks": [], "chance": {}, "left_out": [], "probe": None}
    return {**about, "options": reader.options, "epoch": epoch, "seed": 0, "notes": [], "rows": rows, **more}


def linear(of: tuple[str, str], accuracy: float, **factors: float | None) -> dict[str, Any]:
    name, kind = of
    ends = dict.fromkeys(("ci", "balanced_accuracy_ci", "macro_f1_ci", "log_loss_ci", "log_loss", "C"))
    shares = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), accuracy)
    found = {factor: {"accuracy": value, "ci": None} for factor, value in factors.items()}
    about = {"n": 9, "note": "", "classes": ["a", "b"], "confusion": [[5, 0], [0, 4]], "n_train": 9, "dim": 2}
    return {"name": name, "kind": kind, **ends, **shares, **about, "factors": found}


def retrieval(of: tuple[str, str], value: float | None) -> dict[str, Any]:
    name, kind = of
    scores = {"rank1": {"value": value, "ci": None, "chance": None}, "map": {"value": 0.3, "ci": None, "chance": None}}
    return {"name": name, "kind": kind, "scores": scores, "n": 9, "skipped": 0, "fingerprint": {}, "gallery": []}


def heatmap() -> dict[str, Any]:
    against = {"ci": [0.0, 1.0], "n": 9, "undefined": 0, "normalised": None}
    scores = {"rank_accuracy": {"mean": 0.1, **against}, "auroc": {"mean": 0.8, **against}}
    row = {"name": "attention", "kind": "map", "target": "", "encoder": "trained", "grid": [2, 2]}
    parts = {"scores": {"rectangle": scores, "evidence:corner": scores}, "perturbation": {}, "swap": {}}
    return {**row, **parts, "sanity_check": None}
