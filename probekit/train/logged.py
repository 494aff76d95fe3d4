"""The loggers of a run: chosen by name before anything else, begun, fed once an epoch, and done without when they fail.

Steps do not repeat: what a logger was told before a kill stands, and the epochs that a resumed run trains again are
not told twice.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probekit.config import Config
from probekit.data.split import Images, shrunk
from probekit.methods.base import Method
from probekit.models.extract import eval_mode
from probekit.output.pictures import pixels
from probekit.registry import LOGGERS, get, nearest
from probekit.restore.draw import ROWS, views_figure
from probekit.run import Run
from probekit.settings import flatten
from probekit.train.loggers.base import Begun, Ending, Logger
from probekit.views.recipes import recipe_of
from probekit.visible import first_line

DPI = 100
NOT_NUMBERS = ("epoch", "step")  # of a line of metrics.jsonl


def chosen(names: Sequence[str]) -> dict[str, type[Logger]]:
    """The loggers of these names, each of which imports its package.

    A ValueError for a name that there is not, or twice, and for a package that is not installed.
    """
    found: dict[str, type[Logger]] = {}
    for name in names:
        if name not in LOGGERS:
            raise ValueError(nearest("logger", name, LOGGERS))
        if name in found:
            raise ValueError(f"expected each logger once in --log, found {name} twice")
        try:
            found[name] = get(LOGGERS, "logger", name)
        except Exception as error:  # a package that is there may fail in its own ways
            raise ValueError(
                f"expected the package of {name} for --log {name}, found {first_line(error)}; "
                f"it is had by: pip install {name}"
            ) from error
    return found


class BeginError(ValueError):
    """A logger cannot begin: nothing has been trained yet."""


class Logged:
    """Some loggers as one.

    `say`: takes the one line of a logger that failed; `after`: the last step that they have been told of before;
    `draw`: the picture of an epoch, given whether it is the first, or None where there is none to draw.
    """

    def __init__(
        self,
        loggers: Mapping[str, Logger],
        say: Callable[[str], None],
        *,
        after: int = 0,
        draw: Callable[[bool], NDArray[np.uint8] | None] | None = None,
    ) -> None:
        self.loggers, self.say, self.after, self.draw = dict(loggers), say, after, draw

    def epoch(self, line: Mapping[str, Any], *, scored: bool) -> None:
        """Tells all of them a line of metrics.jsonl, and shows a picture after an epoch that the monitor scored."""
        step = line["step"]
        if step <= self.after:
            return
        numbers = {name: float(value) for name, value in line.items() if name not in NOT_NUMBERS}
        self._each(lambda logger: logger.numbers(step, numbers))
        if self.draw is None or not scored or not any(logger.shows for logger in self.loggers.values()):
            return
        try:
            picture = self.draw(line["epoch"] == 1)
        except Exception as error:
            self.say(f"warning: no more pictures are logged: {first_line(error)}")
            self.draw = None
            return
        if picture is not None:
            self._each(lambda logger: logger.picture(step, "views", picture) if logger.shows else None)

    def close(self, ending: Ending) -> None:
        """Ends all of them."""
        self._each(lambda logger: logger.close(ending))
        self.loggers.clear()

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                call(logger)
            except Exception as error:
                del self.loggers[name]
                self.say(f"warning: {name} failed, and the run goes on without it: {first_line(error)}")
                with suppress(Exception):
                    logger.close("failed")


def begin(
    run: Run,
    kinds: Mapping[str, type[Logger]],
    say: Callable[[str], None],
    *,
    after: int,
    draw: Callable[[bool], NDArray[np.uint8] | None],
) -> Logged:
    """Begins the loggers of a run, or goes on with those that it had; run.json keeps their names and keys.

    A BeginError if one cannot begin. `after`, `draw`: as for `Logged`.
    """
    content = run.read()
    kept = content.get("log", {})
    keys = dict(kept.get("keys", {}))
    settings = flatten(content["config"]) | {f"dataset.{name}": value for name, value in content["dataset"].items()}
    logged = Logged({}, say, after=after, draw=draw)
    for name, kind in kinds.items():
        try:
            logged.loggers[name] = kind(Begun(run.name, run.path, settings, keys.get(name, "")))
        except Exception as error:
            logged.close("failed")
            told = str(error) if isinstance(error, ValueError) else first_line(error)
            raise BeginError(f"{name} cannot begin: {' '.join(told.split())}; or leave it out of --log") from error
        keys[name] = logged.loggers[name].key
        say(f"log: {name}, {logged.loggers[name].place}")
    if kinds or kept:
        run.update(log={"to": list(kinds), "keys": keys})
    return logged


@torch.no_grad()
def draw_epoch(method: Method, images: Images, config: Config, first: bool) -> NDArray[np.uint8] | None:
    """The views of the first training images, and what the method's decoder makes of them, uint8 `[H, W, 3]`.

    None after other epochs than the first if there is no decoder, since views do not change. The draws are of the run's
    seed and of their own stream, so that the run is the same with loggers and without.
    """
    given = images[:ROWS]
    with eval_mode(method):
        size = shrunk(given, config.views.max_size)
        decodes = method.reconstruct(torch.zeros(1, given.shape[1], *size, device=given.device)) is not None
        if not first and not decodes:
            return None

        def predicted(inputs: Tensor) -> Tensor:
            found = method.reconstruct(inputs)
            assert found is not None
            return found

        figure = views_figure(
            given,
            recipe=recipe_of(config.views),
            seed=config.seed,
            title=f"what {config.method} is given{' and predicts' * decodes}",
            predict=predicted if decodes else None,
            size=size,
            stride=method.encoder.stride,
        )
        return pixels(figure, dpi=DPI)
