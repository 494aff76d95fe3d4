"""What `probekit probe` is asked for beside the linear probe, checked before anything is read."""

from dataclasses import dataclass
from typing import Any

from probekit.probe import PROTOCOLS
from probekit.probe.cross_validation import FOLDS, METRICS, REPEATS
from probekit.probe.fractions import DRAWS, FRACTIONS, check_fractions
from probekit.probe.head import RECIPES, Recipe, chosen_recipe
from probekit.registry import nearest

SGD = "sgd"  # the protocol of a trained head


@dataclass(frozen=True)
class ProbeOptions:
    """What the command line asks for beside the linear probe; see `probekit probe --help`."""

    fractions: tuple[float, ...] | None = None
    draws: int = DRAWS
    knn: bool = False
    retrieval: bool = False
    cv: int | None = None
    metric: str = "accuracy"
    repeats: int = REPEATS
    multilabel: bool = False
    every: bool = False
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        """Refuses what no data could satisfy.

        Raises:
            ValueError: If a fraction, a number of folds or a metric is none.
        """
        check_fractions(self.fractions or FRACTIONS)
        if self.metric not in METRICS:
            raise ValueError(nearest("metric", self.metric, METRICS))
        if self.cv is not None and self.cv < 2:
            raise ValueError(f"expected 2 folds or more, found {self.cv}; type: --cv {FOLDS}")

    @property
    def sections(self) -> list[str]:
        """Names in `SECTIONS`."""
        asked = {"fractions": self.fractions is not None, "knn": self.knn, "retrieval": self.retrieval}
        asked |= {"cv": self.cv is not None, "multilabel": self.multilabel}
        return [name for name, wanted in asked.items() if wanted]

    def words(self, section: str) -> list[str]:
        """What to type for a section."""
        shares = ",".join(f"{100 * share:g}" for share in self.fractions or ())
        typed = {
            "fractions": ["--fractions", shares, "--draws", str(self.draws)],
            "knn": ["--knn"],
            "retrieval": ["--retrieval"],
            "multilabel": ["--multilabel"] * self.multilabel,
            "cv": ["--cv", str(self.cv), "--metric", self.metric, "--repeats", str(self.repeats)],
        }
        if section == SGD and self.recipe is not None:
            recipe = self.recipe
            return ["--recipe", recipe.name, "--epochs", str(recipe.epochs), "--lr", f"{recipe.lr:g}"]
        if section == "every":
            return ["--every", *(word for name in self.sections if name != "fractions" for word in typed[name])]
        return typed.get(section, [])


def given_with(option: str, value: object, **further: Any) -> dict[str, Any]:
    """What was typed of the options that belong to another one.

    Raises:
        ValueError: If that one was not typed.
    """
    given = {name: chosen for name, chosen in further.items() if chosen is not None}
    if given and value is None:
        raise ValueError(f"expected --{' and --'.join(given)} with {option}, found it without; leave it out")
    return given


def read_fractions(text: str | None) -> tuple[float, ...] | None:
    """Percentages with commas, "1,10", as shares; None as None.

    Raises:
        ValueError: If it is no list of numbers.
    """
    if text is None:
        return None
    try:
        if not text.isascii():  # float reads the digits of every script, and the result would not say so
            raise ValueError
        return tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected percentages with commas, found {text!r}; type: --fractions 1,10,100") from None


def read_recipe(protocol: str, name: str | None, *, epochs: int | None, lr: float | None) -> Recipe | None:
    """The recipe that `--protocol sgd` and its options ask for; None for another protocol without them.

    Raises:
        ValueError: As `chosen_recipe`, if there is no such protocol, or if another one has such an option.
    """
    if protocol not in (*PROTOCOLS, SGD):
        raise ValueError(nearest("protocol", protocol, (*PROTOCOLS, SGD)))
    if protocol == SGD:
        return chosen_recipe(name or next(iter(RECIPES)), epochs=epochs, lr=lr)
    if name is not None or epochs is not None or lr is not None:
        raise ValueError(f"expected --recipe, --epochs and --lr with --protocol {SGD}, found --protocol {protocol}")
    return None
