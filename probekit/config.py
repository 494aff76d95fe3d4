"""One checked, printable configuration: preset, then --config, then --set a.b=v, then the command's own options.

A section is a frozen dataclass; `[method]` is checked against the method's constructor, whose signature is its config.
Presets give every value, so there are no defaults here; what a preset leaves open (`model.pooling`, `views.recipe`) the
method decides. Its `model.normalise` is for runs from scratch: weights bring their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from probekit.registry import BRANCHES, METHODS, get, nearest
from probekit.settings import attached, method_options, presets, read_preset, typed

SIDE = 8  # sides of images are multiples of it, and stay so when they are shrunk: the U-Net's stride at depth 4


@dataclass(frozen=True)
class DataConfig:
    """`max_size`: larger images are averaged down to so many pixels; `placement`: see `data.split.open_split`."""

    max_size: int
    placement: str


@dataclass(frozen=True)
class ModelConfig:
    """The encoder.

    `backbone`: "unet" or "timm:NAME"; `width` and `depth` of the U-Net, 0 for others; `stem`, `normalise`: see
    `probekit.models`; `pooling`: "gap" or "attention"; `weights`: the file that it starts from, "" for random ones;
    `allow_missing`: whether what that file lacks may be random.
    """

    width: int
    depth: int
    pooling: str
    backbone: str
    stem: str
    normalise: str
    weights: str
    allow_missing: bool


@dataclass(frozen=True)
class ViewsConfig:
    """`recipe`: a name in `views.recipes.RECIPES`; `max_size`: views of larger images have this many pixels."""

    recipe: str
    max_size: int


@dataclass(frozen=True)
class OptimizerConfig:
    """See `probekit.train.optim`.

    `lr` is before scaling; `first` the rate at which the warm-up begins, and `final` the last one, as shares of the
    peak; `decay`: what weight decay and adaptation are for, "weights" or "all"; `clip` the largest norm of each
    parameter's gradient, 0 for any.
    """

    name: str
    lr: float
    scaling: str
    momentum: float
    weight_decay: float
    schedule: str
    warmup_epochs: int
    first: float
    final: float
    decay: str
    clip: float


@dataclass(frozen=True)
class TrainConfig:
    """Epochs, batches and what is done between.

    `batch_size` in images (each gives two views); `precision` "fp32", "bf16" or "auto": what suits the device;
    `keep_every`: epochs from one encoder that is kept for good to the next, 0 for none; `record` "auto": on a GPU the
    step is a CUDA graph where it can be one, "off": it is launched one kernel at a time; `compile`: what of it goes
    through torch.compile there, "off", "views", or "encoder": views and networks; `deterministic`: whether a GPU is to
    give the same bits for the same input (docs/protocols.md).
    """

    epochs: int
    batch_size: int
    eval_every: int
    keep_every: int
    precision: str
    record: str
    compile: str
    deterministic: bool


@dataclass(frozen=True)
class Config:
    """Everything that decides a pretraining run, but the data and the device."""

    method: str
    preset: str
    seed: int
    data: DataConfig
    model: ModelConfig
    views: ViewsConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    method_options: dict[str, Any]
    branches: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, strings and numbers: what run.json keeps and `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Config":
        """The inverse of `to_dict`.

        Raises:
            ValueError: If a setting is missing, unknown, of another type, or out of range.
        """
        full = completed(plain)
        kinds = {"method": str, "preset": str, "seed": int, "branches": dict}
        wrong = [key for key, kind in kinds.items() if type(full.get(key)) is not kind]
        wrong += [f"nothing called {key!r:.80}" for key in full.keys() - kinds - SECTIONS.keys() - {"method_options"}]
        if wrong or full["seed"] < 0:
            raise ValueError(f"expected {', '.join(wrong) or 'seed'} in run.json as pretrain writes it")
        sections = {
            name: kind(**_recorded(name, full.get(name), {f.name: f.type for f in fields(kind)}))
            for name, kind in SECTIONS.items()
        }
        sections["method_options"] = _recorded(
            "method", full.get("method_options"), _types(get(METHODS, "method", full["method"]))
        )
        sections["branches"] = {
            name: _recorded(f"branch.{name}", options, _types(get(BRANCHES, "branch", name)))
            for name, options in full["branches"].items()
        }
        return cls(method=full["method"], preset=full["preset"], seed=full["seed"], **sections)


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "views": ViewsConfig,
    "optimizer": OptimizerConfig,
    "train": TrainConfig,
}

# Settings that runs of older versions lack, and what was done then.
BEFORE: dict[str, dict[str, Any]] = {
    "data": {"placement": "auto"},
    "model": {"backbone": "unet", "stem": "imagenet", "normalise": "none", "weights": "", "allow_missing": False},
    "optimizer": {"first": 0.0, "final": 0.0, "decay": "weights", "clip": 0.0},
    "train": {"keep_every": 0, "record": "auto", "compile": "off", "deterministic": False},
}

LEAST: dict[str, float] = {
    "data.max_size": 8,
    "views.max_size": 8,
    "model.width": 1,
    "model.depth": 1,
    "optimizer.lr": 0,
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
    "optimizer.warmup_epochs": 0,
    "optimizer.first": 0,
    "optimizer.final": 0,
    "optimizer.clip": 0,
    "train.epochs": 1,
    "train.batch_size": 2,
    "train.eval_every": 1,
    "train.keep_every": 0,
}

BELOW: dict[str, float] = {"optimizer.momentum": 1, "optimizer.first": 1}
MOST = 1e9  # of any number: keeps counts within what torch can index

CHOICES: dict[str, tuple[str, ...]] = {
    "data.placement": ("auto", "device", "host", "file"),
    "model.pooling": ("gap", "attention"),
    "model.stem": ("imagenet", "small"),
    "model.normalise": ("auto", "none", "imagenet", "swav", "timm"),
    "optimizer.name": ("lars", "larc", "sgd", "adamw"),
    "optimizer.scaling": ("none", "sqrt", "linear"),
    "optimizer.schedule": ("constant", "cosine"),
    "optimizer.decay": ("weights", "all"),
    "train.precision": ("auto", "fp32", "bf16"),
    "train.record": ("auto", "off"),
    "train.compile": ("views", "encoder", "off"),
}


def completed(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings as run.json keeps them, with those that did not exist yet when an older version wrote it.

    Raises:
        ValueError: If a section is something else than settings.
    """
    for name in (name for name in BEFORE if not isinstance(plain.get(name, {}), Mapping)):
        raise ValueError(f"expected settings in the section {name} of run.json, found {plain[name]!r:.40}")
    full = {"branches": {}, **plain, **{name: known | plain.get(name, {}) for name, known in BEFORE.items()}}
    return full


def resolve(
    method: str,
    method_class: Any,
    *,
    preset: str,
    seed: int,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] = {},
    branches: Iterable[str] = (),
) -> Config:
    """Builds the configuration of a run.

    Args:
        method: The method's name.
        method_class: Its class: gives `pooling`, `recipe`, `defaults` and the constructor's signature.
        preset: Name of a preset.
        seed: Of everything random in the run.
        config_file: A TOML file with any part of the configuration.
        overrides: "a.b=value" each, values as TOML (a bare word is a string).
        options: More overrides, already typed, e.g. `{"train.epochs": 5}`.
        branches: Names of the branches to attach, or of variants of them.

    Raises:
        ValueError: For an unknown preset or key, a value of the wrong type, or one out of range.
    """
    known = presets()
    if preset not in known:
        raise ValueError(nearest("preset", preset, known))
    signature = method_options(method_class)
    kinds, brought = attached(branches)
    flat: dict[str, Any] = {
        "model.pooling": method_class.pooling,
        "views.recipe": method_class.recipe,
        **{f"{section}.{name}": value for section in ("model", "optimizer") for name, value in BEFORE[section].items()},
        **{f"method.{k}": v for k, v in signature.items()},
        **{f"branch.{name}.{k}": v for name, kind in kinds.items() for k, v in method_options(kind).items()},
    }
    flat |= read_preset(preset, method, kinds) | brought
    from_scratch, flat["model.normalise"] = flat["model.normalise"], "auto"
    types = {key: type(value) for key, value in flat.items()}
    changes = typed(config_file, overrides, options)
    for key, value in changes.items():
        if key not in flat:
            raise ValueError(_unknown(key, flat, kinds))
        flat[key] = checked(key, value, types[key])
    if flat["model.backbone"] != "unet":
        for key in ("model.width", "model.depth"):
            if key in changes:
                raise ValueError(
                    f"expected {key} for the U-Net alone, found it with {flat['model.backbone']}; leave it out"
                )
            flat[key] = 0
    if flat["model.allow_missing"] and not flat["model.weights"]:
        raise ValueError(
            "expected --init-from with --allow-missing, found none; type: --init-from FILE, or leave it out"
        )
    if flat["model.normalise"] == "auto" and not flat["model.weights"]:
        flat["model.normalise"] = from_scratch
    sections = {
        name: kind(**{f.name: flat[f"{name}.{f.name}"] for f in fields(kind)}) for name, kind in SECTIONS.items()
    }
    chosen = {k: flat[f"method.{k}"] for k in signature}
    added = {name: {k: flat[f"branch.{name}.{k}"] for k in method_options(kind)} for name, kind in kinds.items()}
    return Config(method=method, preset=preset, seed=seed, method_options=chosen, branches=added, **sections)


def _types(kind: Any) -> dict[str, Any]:
    """The types of the settings of a method or a branch."""
    return {name: type(value) for name, value in method_options(kind).items()}


def _recorded(part: str, given: Any, types: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one part of a run, if these are all that it has and each could have been typed."""
    names = given.keys() if isinstance(given, Mapping) else set()
    if names != types.keys():
        amiss = ", ".join(sorted(map(str, types.keys() ^ names)))
        raise ValueError(f"expected {part} in run.json as pretrain writes it, found missing or unknown: {amiss:.200}")
    unused = ("width", "depth") if part == "model" and given["backbone"] != "unet" else ()
    return {
        name: value if name in unused and value == 0 else checked(f"{part}.{name}", value, types[name])
        for name, value in given.items()
    }


def _unknown(key: str, known: Iterable[str], branches: Iterable[str]) -> str:
    """The one line for a setting that there is not, or not without its branch."""
    section, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if section == "branch" and name in BRANCHES and name not in branches:
        return f"expected the branch of {key}, found none; type: --branch {name}"
    return nearest("setting", key, known)


def checked(key: str, value: Any, expected: type) -> Any:
    """The value of a setting, if it is one of its type and range; else a ValueError."""
    if expected is float and type(value) is int and abs(value) < MOST:
        value = float(value)
    if type(value) is not expected or not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"expected {key} of type {expected.__name__}, found {value!r} ({type(value).__name__})")
    if isinstance(value, (int, float)):
        if key in LEAST and not value >= LEAST[key]:
            raise ValueError(f"expected {key} at least {LEAST[key]:g}, found {value!r}")
        if key in BELOW and not value < BELOW[key]:
            raise ValueError(f"expected {key} below {BELOW[key]:g}, found {value!r}")
        if not abs(value) < MOST:  # nan is not
            raise ValueError(f"expected {key} below {MOST:g}, found {value!r}")
    if key in CHOICES and value not in CHOICES[key]:
        raise ValueError(f"expected {key} one of {', '.join(CHOICES[key])}, found {value!r}")
    return value
