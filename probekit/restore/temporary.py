"""An encoder that is no run's, as one of a run folder that is gone afterwards: what is measured needs one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from probekit.h5 import DatasetInfo
from probekit.models.encoder import save_encoder
from probekit.restore.load import NO_DATA, called, imported
from probekit.restore.opened import Opened, OpenedRun, stamp_of
from probekit.run import Run, create_run
from probekit.weights import LAST


class OpenedCopy(OpenedRun):
    """A copy in a run folder of an encoder that may come from a module, of which alone random weights can be drawn."""

    def __init__(self, run: Run, origin: Opened, header: Mapping[str, Any]) -> None:
        found = origin.plain, header, None
        super().__init__(run, LAST, origin.device, found, stamp=stamp_of(run.encoder), seed=origin.seed)
        self.origin = origin
        self.encoder, self.weights = origin.encoder, origin.weights  # pooled and read at its layer already

    def at(self, layer: str) -> Self:
        """As of any encoder; its random weights are read there, too."""
        found = super().at(layer)
        found.origin = self.origin.at(layer)
        return found

    def random(self, seed: int) -> OpenedRun:
        """As of the origin, in the same folder."""
        return OpenedCopy(self.run, self.origin.random(seed), self.header)


@contextmanager
def in_a_run(opened: Opened, info: DatasetInfo | None) -> Iterator[OpenedRun]:
    """The encoder in a run folder, imported for a dataset file or for none."""
    data = NO_DATA
    if info is not None:
        data = {"path": str(info.path), "hash": info.content_hash, "name": info.name}
    classes = [] if info is None else list(info.classes)
    with TemporaryDirectory(prefix="probekit-") as folder:
        model = {**opened.header["spec"], "weights": ""}
        content = imported(opened.header["method"], model, data, seed=opened.seed or 0)
        run = create_run(Path(folder) / called(opened.name), content, overwrite=False)
        header = {**opened.header, "dataset_hash": data["hash"], "classes": classes}
        save_encoder(run.encoder, opened.plain, header)
        yield OpenedCopy(run, opened, header)
