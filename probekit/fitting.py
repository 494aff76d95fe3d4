"""What settings become with so many training images: the method's and the branches' say."""

from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace

from probekit.config import Config
from probekit.registry import BRANCHES, METHODS, get


def fitted(config: Config, *, typed: Collection[str], images: int) -> tuple[Config, list[str]]:
    """The settings of method and branches for so many training images, and a line for each that suits them badly.

    Args:
        config: As it was resolved.
        typed: What the user gave, whole names: it stands.
        images: In the training split.

    Raises:
        ValueError: If something that was typed cannot run.
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
