"""Lazy name tables: a name stands for "module:Symbol", imported when asked for, so `--help` never pays for torch."""

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

METHODS: dict[str, str] = {
    "simclr": "probekit.methods.conrec:SimCLR",
    "simclr-attention": "probekit.methods.conrec:SimCLRAttention",
    "reconstruction": "probekit.methods.conrec:Reconstruction",
    "conrec-gap": "probekit.methods.conrec:ConRecGAP",
    "conrec": "probekit.methods.conrec:ConRec",
    "moco-v2": "probekit.methods.moco_v2:MoCoV2",
    "byol": "probekit.methods.byol:BYOL",
    "simsiam": "probekit.methods.simsiam:SimSiam",
    "swav": "probekit.methods.swav:SwAV",
    "dino": "probekit.methods.dino:DINO",
    "barlow-twins": "probekit.methods.barlow_twins:BarlowTwins",
    "vicreg": "probekit.methods.vicreg:VICReg",
    "supervised": "probekit.methods.supervised:Supervised",
}

BRANCHES: dict[str, str] = {
    "lcr": "probekit.branches.lcr:LCR",
    "xcorr": "probekit.branches.xcorr:XCorr",
    "contrastive-crop": "probekit.branches.contrastive_crop:ContrastiveCrop",
    "dilo": "probekit.branches.dilo:DiLo",
    "cvsa": "probekit.branches.cvsa:CVSA",
    "lewel": "probekit.branches.lewel:LEWEL",
}

# Names for a branch with other settings: those that the LCR paper compares with in its tables 1, 4 and 5. Its
# "MultiTask" is lcr itself, probed with `--pool gap`: the same training.
VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "lcr-dual-pooling": ("lcr", {"train_pool": "branch"}, "its map also pools while training (collapses in the paper)"),
    "lcr-sam": ("lcr", {"head": "linear"}, "one filter, for --pool gap (SAM-SSL)"),
    "lcr-sam-bilinear": ("lcr", {"train_pool": "bilinear"}, "for --pool bilinear (SAM-SSL-Bilinear)"),
    "lcr-bilinear": ("lcr", {"weight": 0.0, "train_pool": "bilinear"}, "the same without a fit (MoCo v2-Bilinear)"),
    "lcr-mlp": ("lcr", {"head": "mlp"}, "a perceptron in place of filters"),
}

MAPS: dict[str, str] = {
    "cam": "probekit.heatmaps.maps.cam:CAM",
    "gradcam": "probekit.heatmaps.maps.cam:GradCAM",
    "hirescam": "probekit.heatmaps.maps.cam:HiResCAM",
    "gradcam-ssl": "probekit.heatmaps.maps.gradcam_ssl:GradCAMSSL",
    "gradcam-loss": "probekit.heatmaps.maps.gradcam_loss:GradCAMLoss",
    "gradcam-similarity": "probekit.heatmaps.maps.gradcam_ssl:GradCAMSimilarity",
    "attention": "probekit.heatmaps.maps.cam:Attention",
    "gfb": "probekit.heatmaps.maps.gfb:GFB",
    "self-attention": "probekit.heatmaps.maps.self_attention:SelfAttention",
    "rollout": "probekit.heatmaps.maps.rollout:Rollout",
    "input-gradient": "probekit.heatmaps.maps.cam:InputGradient",
    "occlusion": "probekit.heatmaps.maps.occlusion:Occlusion",
}

# Maps whose name a number may follow, as in self-attention:3, and of what.
PARTS = {"self-attention": "head", "gfb": "filter"}
ALL_PARTS = "all"
PART = rf"{ALL_PARTS}|0|[1-9]\d{{0,5}}"  # as it is typed: one way for each number

MEASUREMENTS: dict[str, str] = {
    "exam": "probekit.exams.measurement:Exam",
    "linear": "probekit.probes.measurements.linear:Linear",
    "attentive": "probekit.probes.measurements.attentive:Attentive",
    "sgd": "probekit.probes.measurements.sgd:SGD",
    "multilabel": "probekit.probes.measurements.multilabel:Multilabel",
    "dense": "probekit.probes.measurements.dense:Dense",
    "fractions": "probekit.probes.measurements.fractions:Fractions",
    "knn": "probekit.probes.measurements.knn:KNN",
    "retrieval": "probekit.probes.measurements.retrieval:Retrieval",
    "cv": "probekit.probes.measurements.cross_validation:CrossValidation",
    "depth": "probekit.probes.measurements.depth:Depth",
    "all-checkpoints": "probekit.probes.measurements.all_checkpoints:AllCheckpoints",
    "reconstruction": "probekit.probes.measurements.reconstruction:Reconstruction",
    "health": "probekit.probes.measurements.health:Health",
    "heatmap": "probekit.heatmaps.measurement:Heatmap",
    "map-depth": "probekit.heatmaps.depth:MapDepth",
    "detect": "probekit.detection.measurement:Detection",
}

LOGGERS: dict[str, str] = {  # `pretrain --log`; the name is also that of the package to install
    "csv": "probekit.train.loggers.csv:CSV",
    "tensorboard": "probekit.train.loggers.tensorboard:TensorBoard",
    "wandb": "probekit.train.loggers.wandb:WandB",
    "mlflow": "probekit.train.loggers.mlflow:MLflow",
}

EXPORTS: dict[str, str] = {  # `export --to`
    "safetensors": "probekit.share.to_safetensors:FORMAT",
    "onnx": "probekit.share.to_onnx:FORMAT",
    "timm": "probekit.share.to_timm:FORMAT",
    "torchvision": "probekit.share.to_torchvision:FORMAT",
    "detectron2": "probekit.share.to_detectron2:FORMAT",
}


@dataclass(frozen=True)
class Pool:
    """What is to be known of a pooling at test time without torch; `probekit.restore.pooled` makes it.

    `weighs`: whether it weighs the cells of the feature map, so that there is a map to show; `averages`: whether an
    embedding is a mean of the map's cells: what class activation maps rest on; `of_run`: whether a branch or a head of
    the run does it: the whole method must be there; `of_tokens`: whether it takes a transformer's class token;
    `of_layers`: whether it pools any layer.
    """

    about: str
    weighs: bool = False
    averages: bool = True
    of_run: bool = False
    of_tokens: bool = False
    of_layers: bool = False


POOLS: dict[str, Pool] = {  # `--pool`
    "gap": Pool("the mean over cells", of_layers=True),
    "max": Pool("the largest over cells", averages=False, of_layers=True),
    "norm": Pool("cells weighed by the length of their features", weighs=True, of_layers=True),
    "cls": Pool("the class token", averages=False, of_tokens=True, of_layers=True),
    "cls+gap": Pool("the class token and the mean over patches", averages=False, of_tokens=True, of_layers=True),
    "last4": Pool("the class tokens of the last four blocks", averages=False, of_tokens=True),
    "last4+gap": Pool("these and the mean over the last block's patches", averages=False, of_tokens=True),
    "attention": Pool("the encoder's own attention", weighs=True),
    "branch": Pool("cells weighed by the map of a branch", weighs=True, of_run=True),
    "bilinear": Pool("cells weighed by each map of lcr or lewel", averages=False, of_run=True),
    "projection": Pool("the encoder's own pooling, then the head that the loss compares", averages=False, of_run=True),
}

MOST = 20  # names in one line


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """The one line for an unknown name: lists the known ones, or of many those that are most alike, and the nearest."""
    names = sorted(known)
    alike = names if len(names) <= MOST else _alike(name, names, n=6, cutoff=0)
    listed = "known" if alike == names else f"of {len(names)} the most alike"
    return f"unknown {kind} {name!r}; {listed}: {', '.join(alike) or 'none yet'}{did_you_mean(name, names)}"


def check_named(kind: str, name: str, known: Iterable[str], where: str = "") -> None:
    """Refuses a name that is none of the known ones; `where`: what the line says last, " (in FILE)"."""
    if name not in (known := list(known)):
        raise ValueError(f"{nearest(kind, name, known)}{where}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a line about an unknown name: the nearest of the known ones, or nothing where none is near."""
    close = _alike(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _alike(name: str, known: Iterable[str], *, n: int, cutoff: float) -> list[str]:
    """The names most alike, the nearest first, whichever letters are capital; `cutoff`: how alike, at most 1."""
    plain = {each.lower(): each for each in known}
    return [plain[each] for each in difflib.get_close_matches(name.lower(), plain, n=n, cutoff=cutoff)]


def branch_named(name: str) -> tuple[str, dict[str, Any]]:
    """The branch that a name after --branch stands for, and the settings that it brings.

    A ValueError if there is no such branch or variant of one.
    """
    if name in VARIANTS:
        return VARIANTS[name][:2]
    check_named("branch", name, [*BRANCHES, *VARIANTS])
    return name, {}


def loggers_named(typed: str) -> list[str]:
    """Loggers as typed after --log, names with commas, each once, of which "none" is none.

    A ValueError if there is no such logger.
    """
    names = [name.strip() for name in typed.split(",") if name.strip() not in ("", "none")]
    for name in names:
        check_named("logger", name, LOGGERS)
    return list(dict.fromkeys(names))


def map_named(name: str) -> tuple[str, str]:
    """A map's name as typed -> its name in `MAPS`, and the head or filter: a number, `ALL_PARTS`, or "" for all in one.

    A ValueError if there is no such map, or it has no parts.
    """
    plain, colon, part = name.partition(":")
    check_named("map", plain, MAPS)
    if colon and (plain not in PARTS or not re.fullmatch(PART, part)):
        known = plain if plain in PARTS else next(iter(PARTS))
        told = " or ".join(f"of a {what} after {map}" for map, what in PARTS.items())
        raise ValueError(
            f"expected a number {told} alone, found {name}; type: --maps {known}:0, or --maps {known}:{ALL_PARTS}"
        )
    return plain, part


def get(table: Mapping[str, str], kind: str, name: str) -> Any:
    """Imports and returns the symbol that `name` stands for; a ValueError if the table has no such name."""
    check_named(kind, name, table)
    module, symbol = table[name].split(":")
    return getattr(importlib.import_module(module), symbol)
