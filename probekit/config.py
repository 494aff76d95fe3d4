"""One checked, printable configuration: preset, then --config, then --set a.b=v, then the command's own options.

A section is a dataclass whose fields say their types, ranges and choices; `[method]` and `[branch.NAME]` are checked
against a constructor, whose signature is their config. Presets give every value, so there are no defaults here; what a
preset leaves open (`model.pooling`, `views.recipe`) the method decides. Its `model.normalise` is for runs from scratch:
weights bring their own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from probekit.checked import Meta, checked
from probekit.registry import BRANCHES, METHODS, get, nearest
from probekit.settings import attached, method_options, presets, read_preset, typed

SIDE = 8  # sides of images are multiples of it, and stay so when they are shrunk: the U-Net's stride at depth 4
MOST = 10**9  # of any number: keeps counts within what torch can index

PoolingName = Literal["gap", "attention"]
NormaliseName = Literal["auto", "none", "imagenet", "swav", "timm"]
OptimizerName = Literal["lars", "larc", "sgd", "adamw"]
ScalingName = Literal["none", "sqrt", "linear"]
ScheduleName = Literal["constant", "cosine"]
DecayName = Literal["weights", "all"]

Pixels = Annotated[int, Meta(ge=SIDE, lt=MOST)]
Whole = Annotated[int, Meta(ge=0, lt=MOST)]
Count = Annotated[int, Meta(ge=1, lt=MOST)]
Several = Annotated[int, Meta(ge=2, lt=MOST)]  # of one alone a loss has nothing to tell apart
Number = Annotated[float, Meta(ge=0, lt=MOST)]
Positive = Annotated[float, Meta(gt=0, lt=MOST)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Part = Annotated[float, Meta(ge=0, le=1)]
Portion = Annotated[float, Meta(gt=0, le=1)]  # of none of it nothing is left
OF_CONSTRUCTORS: dict[Any, Any] = {  # of settings whose constructor does not say a range
    int: Annotated[int, Meta(gt=-MOST, lt=MOST)],
    float: Annotated[float, Meta(gt=-MOST, lt=MOST)],
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`max_size`: larger images are averaged down to so many pixels; `placement`: see `data.split.open_split`."""

    max_size: Pixels
    placement: Literal["auto", "device", "host", "file"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The encoder.

    `backbone`: "unet" or "timm:NAME"; `width` and `depth` of the U-Net, 0 for others; `stem`, `normalise`: see
    `probekit.models`; `weights`: the file that it starts from, "" for random ones; `allow_missing`: whether what that
    file lacks may be random.
    """

    width: Whole
    depth: Whole
    pooling: PoolingName
    backbone: str
    stem: Literal["imagenet", "small"]
    normalise: NormaliseName
    weights: str
    allow_missing: bool

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("depth", self.depth)):
            if self.backbone == "unet" and value < 1:
                raise ValueError(f"expected model.{name} of at least 1 for a U-Net, found {value}")


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """How views are made.

    `recipe`: a name in `views.recipes.RECIPES`; `max_size`: views of larger images have this many pixels; `jitter`:
    what multiplies the recipe's strength of brightness, contrast, saturation and hue; the others: odds of a corruption,
    which multiply its share in the recipe, and of which 0 leaves it out (`views.corrupt`).
    """

    recipe: str
    max_size: Pixels
    jitter: Number
    pixel_shuffling: Number
    intensity: Number
    in_painting: Number
    out_painting: Number


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """See `probekit.train.optim`.

    `lr` is before scaling; `first` the rate at which the warm-up begins, and `final` the last one, as shares of the
    peak; `decay`: what weight decay and adaptation are for; `clip` the largest norm of each parameter's gradient, 0 for
    any.
    """

    name: OptimizerName
    lr: Number
    scaling: ScalingName
    momentum: Share
    weight_decay: Number
    schedule: ScheduleName
    warmup_epochs: Whole
    first: Share
    final: Number
    decay: DecayName
    clip: Number


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Epochs, batches and what is done between.

    `batch_size` in images (each gives two views); `precision` "auto": what suits the device; `keep_every`: epochs from
    one encoder that is kept for good to the next, 0 for none; `monitor`: what scores the encoder meanwhile
    (`probekit.train.evaluate`); `monitored`: by its embedding, or by the projection that the loss compares; `record`
    "auto": on a GPU the step is a CUDA graph where it can be one, "off": it is launched one kernel at a time;
    `compile`: what of it goes through torch.compile there, "encoder" is views and networks; `deterministic`: whether a
    GPU is to give the same bits for the same input (docs/protocols.md).
    """

    epochs: Count
    batch_size: Annotated[int, Meta(ge=2, lt=MOST)]
    eval_every: Count
    keep_every: Whole
    monitor: Literal["linear", "knn", "kappa"]
    monitored: Literal["embedding", "projection"]
    precision: Literal["auto", "fp32", "bf16"]
    record: Literal["auto", "off"]
    compile: Literal["views", "encoder", "off"]
    deterministic: bool


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a pretraining run, but the data and the device."""

    method: str
    preset: str
    seed: Annotated[int, Meta(ge=0)]
    data: DataConfig
    model: ModelConfig
    views: ViewsConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    method_options: dict[str, Any]
    branches: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, strings and numbers: what run.json keeps and `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Config":
        """The inverse of `to_dict`; a ValueError if a setting is missing, unknown, of another type, or out of range."""
        config: Config = checked(plain, cls, "run.json")
        return config._with_options(get(METHODS, "method", config.method), "run.json")

    def _with_options(self, method_class: Any, where: str) -> "Config":
        branches = {
            name: _of_constructor(f"branch.{name}", given, get(BRANCHES, "branch", name), where)
            for name, given in self.branches.items()
        }
        options = _of_constructor("method", self.method_options, method_class, where)
        return replace(self, method_options=options, branches=branches)


SECTIONS = {name: kind for name, kind in get_type_hints(Config).items() if is_dataclass(kind)}


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

    A ValueError for an unknown preset or key, a value of the wrong type, or one out of range.

    Args:
        method_class: Its class: gives `pooling`, `recipe`, `defaults` and the constructor's signature.
        overrides: "a.b=value" each, values as TOML (a bare word is a string).
        options: More overrides, already typed, e.g. `{"train.epochs": 5}`.
        branches: Names of the branches to attach, or of variants of them.
    """
    kinds, brought = attached(branches)
    flat = _before_typing(method, method_class, preset, kinds) | brought
    from_scratch, flat["model.normalise"] = flat["model.normalise"], "auto"
    changes = typed(config_file, overrides, options)
    for key in changes:
        if key not in flat:
            raise ValueError(_unknown(key, flat, kinds))
    flat |= changes
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
    plain = {section: _part(flat, section) for section in SECTIONS}
    plain |= {
        "method_options": _part(flat, "method"),
        "branches": {name: _part(flat, f"branch.{name}") for name in kinds},
    }
    config: Config = checked({"method": method, "preset": preset, "seed": seed, **plain}, Config, "")
    return config._with_options(method_class, "")


def _before_typing(method: str, method_class: Any, preset: str, branches: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting by its dotted name, as the method, the branches and the preset have it."""
    known = presets()
    if preset not in known:
        raise ValueError(nearest("preset", preset, known))
    return {
        "model.pooling": method_class.pooling,
        "views.recipe": method_class.recipe,
        **{f"method.{k}": v for k, v in method_options(method_class).items()},
        **{f"branch.{name}.{k}": v for name, kind in branches.items() for k, v in method_options(kind).items()},
        **read_preset(preset, method, branches),
    }


def _part(flat: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key.removeprefix(f"{name}."): value for key, value in flat.items() if key.startswith(f"{name}.")}


def _of_constructor(part: str, given: Mapping[str, Any], owner: Any, where: str) -> dict[str, Any]:
    """The settings of a method or a branch, checked against the constructor's types."""
    return dict(vars(checked(given, _settings(owner), where, part)))


@cache
def _settings(owner: Any) -> type:
    """A constructor's settings as a type; its annotations may say ranges and choices."""
    kinds = get_type_hints(owner.__init__, include_extras=True)
    fields = [(name, OF_CONSTRUCTORS.get(kinds[name], kinds[name])) for name in method_options(owner)]
    return make_dataclass(owner.__name__, fields)


def _unknown(key: str, known: Iterable[str], branches: Iterable[str]) -> str:
    """The one line for a setting that there is not, or not without its branch."""
    section, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if section == "branch" and name in BRANCHES and name not in branches:
        return f"expected the branch of {key}, found none; type: --branch {name}"
    return nearest("setting", key, known)


def fitted(config: Config, *, typed: Collection[str], images: int) -> tuple[Config, list[str]]:
    """The settings of method and branches for so many training images, and a line for each that suits them badly.

    A ValueError if something that was typed cannot run. `typed`: what the user gave, whole names: it stands; `images`:
    in the training split.
    """
    kind = get(METHODS, "method", config.method)
    batch = config.train.batch_size
    options, lines = kind.suited(config.method_options, typed=typed, images=images, batch_size=batch)
    lines = [*lines, *_endless("method", kind, options, config.train.epochs)]
    branches = dict(config.branches)
    for name in branches:
        attached = get(BRANCHES, "branch", name)
        if branches[name].get("weight", 1.0):
            branches[name], more = attached.suited(branches[name], typed=typed, images=images)
            lines = [*lines, *more, *_endless(f"branch.{name}", attached, branches[name], config.train.epochs)]
        elif not attached.takes_part(branches[name]):
            of, unused = f"branch.{name}.", f"in training: branch.{name}.weight is 0"
            ours = (key for key in typed if key.startswith(of) and key != f"{of}weight")
            lines = [*lines, *(f"warning: {key} has no effect {unused}" for key in ours)]
    without = {
        "optimizer.first": config.optimizer.warmup_epochs == 0 and "optimizer.warmup_epochs is 0",
        "optimizer.final": config.optimizer.schedule == "constant" and "optimizer.schedule is constant",
    }
    lines = [*lines, *(f"warning: {key} has no effect: {why}" for key, why in without.items() if key in typed and why)]
    return replace(config, method_options=options, branches=branches), lines


def _endless(part: str, kind: Any, options: Mapping[str, Any], epochs: int) -> list[str]:
    """A line for each setting of a method or a branch that lasts the whole run, typed or not."""
    return [
        f"warning: {part}.{name}={options[name]:g} is not over in {epochs} epoch{'s' * (epochs > 1)}: {why}"
        for name, why in kind.spans.items()
        if options[name] >= epochs
    ]
