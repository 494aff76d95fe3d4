"""How a linear head is trained by SGD: the papers' recipes."""

from dataclasses import dataclass, replace

from probekit.registry import nearest


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
        momentum = f"{'Nesterov ' if self.nesterov else ''}momentum {self.momentum:g}"
        return (
            f"{encoder}{length}; SGD, lr {self.lr:g}, {self.schedule}, {momentum}, weight decay {self.weight_decay:g}, "
            f"{self.epochs} epochs of batches of {self.batch_size}"
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
    )
}


def chosen_recipe(name: str, *, epochs: int | None, lr: float | None) -> Recipe:
    """A recipe, with what the user wants otherwise; a ValueError if there is none, or a rate is not positive."""
    if name not in RECIPES:
        raise ValueError(nearest("recipe", name, RECIPES))
    if lr is not None and lr <= 0:
        raise ValueError(f"expected a learning rate above 0, found {lr:g}; leave --lr out for the recipe's")
    found = RECIPES[name]
    return replace(found, epochs=epochs or found.epochs, lr=lr or found.lr)
