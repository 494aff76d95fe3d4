"""What a measurement gave: printed as its tables, in a notebook with its charts, and as plain numbers."""

import base64
import io
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from PIL import Image
from rich.console import Console

from probekit.measurement import Score, read_result
from probekit.output.document import Block, Chart, Note, Table
from probekit.results import show_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 110  # characters of a printed table
SIDE, COLOURS = 960, 128  # px across a picture in a notebook, and its colours


def plain_console(out: io.StringIO) -> Console:
    """Prints text alone: within a notebook rich would show each line by itself, and in colours."""
    return Console(file=out, width=WIDTH, force_jupyter=False, color_system=None)


class Result:
    """One measurement of one encoder.

    Attributes:
        name: Of the measurement: "linear", "heatmap", "exam", ...
        pictures: PNG files of what shows images, by name: "gallery" of a heatmap.
    """

    def __init__(self, content: Mapping[str, Any], pictures: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.pictures = dict(pictures)
        self._content, self._reader = dict(content), read_result(dict(content))
        self.name = self._reader.name

    def to_dict(self) -> dict[str, Any]:
        """All of it, as the command prints it with `--json` (docs/protocols.md, docs/heatmaps.md, docs/exam.md)."""
        return dict(self._content)

    @property
    def scores(self) -> dict[str, Score]:
        """The encoder's numbers by name, each a `value` in [0, 1] with its 95 % interval `ci`; more is better."""
        return self._reader.encoder_scores(self._content)

    @property
    def sentences(self) -> list[str]:
        """What stands out."""
        return [*self._reader.sentences(self._content), *self._content.get("certificate", ())]

    @property
    def tables(self) -> list[Table]:
        """Its tables."""
        return self._reader.tables(self._content)

    def figures(self) -> "dict[str, Figure]":
        """Its charts as figures of matplotlib, by name; pictures of images are left out."""
        return {chart.key: chart.draw() for chart in self._reader.charts(self._content) if not chart.photographs}

    def __repr__(self) -> str:
        out = io.StringIO()
        show_results([self._content], plain_console(out))
        return out.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from probekit.reports.page import fragment

        charts: list[Chart] = [chart for chart in self._reader.charts(self._content) if not chart.photographs]
        tables = [table for table in self.tables if not table.folded]
        blocks: list[Block] = [*map(Note, self.sentences), *tables, *charts]
        return fragment(self._reader.title, blocks) + "".join(map(_image, self.pictures.values()))


def _image(content: bytes) -> str:
    """A picture within a notebook, smaller than the file: notebooks are kept whole."""
    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SIDE, 2 * SIDE))
    out = io.BytesIO()
    small.quantize(COLOURS).save(out, "PNG", optimize=True)
    return (
        f'<img alt="" style="max-width:100%" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}">'
    )


class Results(Mapping[str, Result]):
    """Several measurements of one encoder, by name."""

    def __init__(self, contents: Mapping[str, Mapping[str, Any]]) -> None:
        self._results = {name: Result(content) for name, content in contents.items()}

    def __getitem__(self, name: str) -> Result:
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def to_dict(self) -> dict[str, Any]:
        """As `Result.to_dict`, by name."""
        return {name: result.to_dict() for name, result in self.items()}

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.values()))

    def _repr_html_(self) -> str:
        return "\n".join(result._repr_html_() for result in self.values())
