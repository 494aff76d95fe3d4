"""What is audited: a recipe by its name or by that of a method, with the settings that decide its views."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from probekit.config import ViewsConfig, resolve
from probekit.registry import METHODS, check_named, get
from probekit.settings import parse_overrides
from probekit.views.recipes import RECIPES, Recipe, recipe_of

ALL = "all"
CARRIER = "simclr"  # whose settings those recipes have that are no method's; none of them concerns views
OF_VIEWS = (*(f"views.{field.name}" for field in fields(ViewsConfig)), "data.max_size")


@dataclass(frozen=True)
class Chosen:
    """A recipe as a run would take it."""

    name: str  # what was asked for, a recipe or a method
    views: ViewsConfig  # its settings
    max_size: int  # larger images are averaged down to so many pixels first

    @property
    def recipe(self) -> Recipe:
        """How its views are made."""
        return recipe_of(self.views)


def chosen(name: str, *, preset: str, settings: Sequence[str]) -> list[Chosen]:
    """The recipe that a name stands for, a recipe's or a method's, or all of them, "all".

    `preset`: whose settings they have; `settings`: "views.max_size=64" each, as after `--set`. A ValueError if there is
    no such recipe or setting, or one that concerns no view.
    """
    other = next((key for key in parse_overrides(settings) if key not in OF_VIEWS), None)
    if other is not None:
        raise ValueError(f"expected --set {', '.join(OF_VIEWS)}, found {other}, which changes no view; leave it out")
    if name == ALL:
        if "views.recipe" in parse_overrides(settings):
            raise ValueError(f"expected one recipe with --set views.recipe, found {ALL}; leave the setting out")
        return [_chosen(each, preset, settings) for each in RECIPES]
    check_named("recipe or method", name, {*RECIPES, *METHODS, ALL})
    return [_chosen(name, preset, settings)]


def _chosen(name: str, preset: str, settings: Sequence[str]) -> Chosen:
    method = name if name in METHODS else CARRIER
    own = [] if name in METHODS else [f"views.recipe={name}"]
    config = resolve(method, get(METHODS, "method", method), preset=preset, seed=0, overrides=[*own, *settings])
    check_named("recipe", config.views.recipe, RECIPES)
    return Chosen(name, config.views, config.data.max_size)
