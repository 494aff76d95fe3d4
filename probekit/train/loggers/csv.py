"""CSV: metrics.csv in the run folder, one row an epoch, for any spreadsheet."""

import csv
import io
from collections.abc import Mapping, Sequence

from probekit.files import read_text, write_text
from probekit.train.loggers.base import Begun, Ending, Logger


class CSV(Logger):
    """A table with a column a number; what was not measured in an epoch is empty there."""

    shows = False

    def __init__(self, begun: Begun) -> None:
        self.path = begun.folder / "metrics.csv"
        self.place = str(self.path)
        text = read_text(self.path) if self.path.exists() else ""
        self.rows = list(csv.DictReader(io.StringIO(text)))
        self.columns = list(next(csv.reader(io.StringIO(text)), ["step"]))

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes the table anew, whole: names that come later are columns of the earlier rows, too."""
        row = {"step": step, **numbers}
        self.columns += [name for name in row if name not in self.columns]
        self.rows.append({name: str(value) for name, value in row.items()})
        write_text(self.path, _table(self.columns, self.rows))

    def close(self, ending: Ending) -> None:
        """There is nothing to end."""


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
