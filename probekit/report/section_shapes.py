"""What the results files of the protocols beside the linear probe must look like; see `shapes`."""

from typing import Any

from probekit.report.shapes import INTERVAL, NUMBER, TOP5, Absent, Each, Maybe

SCORE = {"value": Maybe(NUMBER), "ci": Maybe(INTERVAL)}
FOLDS = {"mean": Maybe(NUMBER), "ci": Maybe(INTERVAL), "pooled": Maybe(NUMBER), "pooled_ci": Maybe(INTERVAL)}
ABOUT = {
    **dict.fromkeys(("run", "data", "data_hash", "protocol", "how", "command"), str),
    "seed": int,
    "notes": [str],
}
MADE = {**ABOUT, "checkpoint": str, "epoch": int}
ROW = {"name": str, "kind": str}

FRACTIONS = {
    **MADE,
    "rows": [
        {
            **ROW,
            "points": [{"fraction": NUMBER, "n": NUMBER, "accuracy": NUMBER, "ci": Maybe(INTERVAL)}],
            "complexity": Each(NUMBER),
            "complexity_ci": Absent(Each(Maybe(INTERVAL))),
            "n_test": int,
        }
    ],
}
KNN = {
    **MADE,
    "rows": [
        {
            **ROW,
            "accuracy": NUMBER,
            "ci": Maybe(INTERVAL),
            "n": int,
            "balanced_accuracy": NUMBER,
            "balanced_accuracy_ci": Absent(Maybe(INTERVAL)),
            **TOP5,
            "k": Maybe(int),
            "temperature": Maybe(NUMBER),
            "monitor": [{"k": int, "temperature": NUMBER, "accuracy": NUMBER, "ci": Maybe(INTERVAL)}],
        }
    ],
}
RETRIEVAL = {
    **MADE,
    "rows": [
        {
            **ROW,
            "n": int,
            "skipped": int,
            "scores": Each({**SCORE, "chance": Maybe(NUMBER)}),
            "fingerprint": Each({"kind": str, "value": Maybe(NUMBER), "chance": NUMBER}),
        }
    ],
}
CV = {
    **MADE,
    "rows": [{**ROW, "metric": str, "folds": int, "repeats": int, "n": int, "decodings": Each(Each(FOLDS))}],
}
MULTILABEL = {
    **MADE,
    "rows": [
        {
            **ROW,
            "n": int,
            "undefined": int,
            "map": Each(SCORE),
            "per_class": [
                {
                    "name": str,
                    "ap": Each(Maybe(NUMBER)),
                    "ap_ci": Absent(Each(Maybe(INTERVAL))),
                    "positives": int,
                    "difficult": int,
                    "note": str,
                }
            ],
        }
    ],
}
EVERY = {
    **ABOUT,
    "points": [{"checkpoint": str, "epoch": int, "scores": Each(SCORE)}],
    "floors": [{"name": str, "scores": Each(SCORE)}],
}

SECTIONS: dict[str, dict[str, Any]] = {  # by the beginning of the file's name
    "multilabel": MULTILABEL,
    "fractions": FRACTIONS,
    "knn": KNN,
    "retrieval": RETRIEVAL,
    "cv": CV,
    "every": EVERY,
}
