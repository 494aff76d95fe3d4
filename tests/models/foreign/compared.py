"""Weights of other projects read into our encoders, and the table of them in docs/encoders.md.

`python -m tests.models.foreign.compared` writes the table anew.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from probekit.models import Encoder
from probekit.models.checkpoint import read_checkpoint
from probekit.models.snapshot import weights_in
from probekit.models.weights import Match, load_weights
from tests.models.foreign.base import SIDE, Case
from tests.models.foreign.table import FOREIGN

CLOSE = 1e-4  # relative to the largest feature
DOCS = Path(__file__).parents[3] / "docs/encoders.md"
ITEM = re.compile(r"- \*\*(.+)\*\*: (`.+`) of (`.+`);\n  (\S+ %) mapped; (below \S+) from (.+)\n")


@dataclass(frozen=True)
class Compared:
    """How weights match, the names in their file, and the largest difference of features by the largest feature."""

    match: Match
    names: list[str]
    difference: float


def compared(case: Case) -> Compared:
    """Reads a file of weights into an encoder, and passes images through it and through the project's own network."""
    encoder = Encoder(channels=3, pooling="gap", **case.encoder).eval()
    checkpoint = weights_in(case.path) if case.path.is_dir() else read_checkpoint(case.path)
    match = load_weights(encoder, checkpoint)
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = encoder(x).map, case.features(x)
    assert found.shape == expected.shape
    names = [name for table in checkpoint.tables.values() for name in table]
    return Compared(match, names, float((found - expected).abs().max() / expected.abs().max()))


def rows(found: Mapping[str, Compared]) -> list[list[str]]:
    """Project, one of its names, backbone, what was mapped, the difference and the reference, of each."""
    return [
        [
            name,
            f"`{FOREIGN[name].example}`",
            f"`{FOREIGN[name].backbone}`",
            f"{100 * each.match.matched / each.match.total:g} %",
            f"below 1e{math.ceil(math.log10(max(each.difference, 1e-7) * 1.5))}",
            FOREIGN[name].reference,
        ]
        for name, each in found.items()
    ]


def documented() -> list[list[str]]:
    """The same of the list in the docs."""
    return [[*found.groups()] for found in ITEM.finditer(DOCS.read_text())]


def main() -> None:
    """Writes the list."""
    found = {}
    for name, foreign in FOREIGN.items():
        with TemporaryDirectory() as folder:
            found[name] = compared(foreign.make(Path(folder)))
        print(f"{name}: {found[name].difference:.1e}")
    items = (f"- **{a}**: {b} of {c};\n  {d} mapped; {e} from {f}\n" for a, b, c, d, e, f in rows(found))
    before, *_, after = ITEM.split(DOCS.read_text())
    DOCS.write_text(before + "".join(items) + after)


if __name__ == "__main__":
    main()
