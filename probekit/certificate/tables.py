"""A certificate, and what local statistics reach on a file, as tables and sentences."""

from collections.abc import Mapping
from typing import Any

from generators.certificates import Certificate, Estimate, FactorCertificate, told
from probekit.output.document import Block, Cell, Note, Table, percents, scored, text

HOW = {
    True: "Drawings: scalars of the ink, and counts of binary 3x3 patches that reach over R px.",
    False: "Photographs: mean and deviation of the channels; counts of levels (a bag of 1x1 patches), and of local "
    "binary patterns that reach over R px with the level of the pixel amid them (Ojala et al. 2002).",
}


def certificate_blocks(certificate: Certificate) -> list[Block]:
    """A table for each class factor, the verdict under it."""
    blocks: list[Block] = []
    for (name, factor), sentence in zip(certificate["factors"].items(), told(certificate), strict=True):
        title = f"{name}: {' or '.join(factor['values'])}"
        blocks += [Table(f"certificate-{name}", title, "", ("", "unpaired", "paired"), _rows(factor)), Note(sentence)]
    how = (
        f"{certificate['n']:,} samples of {certificate['generator']}, {certificate['size']} px, seed "
        f"{certificate['seed']}, without noise; each beside its counterfactuals. Areas under the ROC curve "
        "and shares of pairs in order, with 95 % intervals; chance is 0.50. docs/generators.md."
    )
    return [*blocks, Note(how)]


def _rows(factor: FactorCertificate) -> list[list[Cell]]:
    pairs, reader, nothing = factor["pairs"], factor["reader"], Cell("", None)
    rows = [
        [text(line), _estimate(read["unpaired"]), _estimate(read["paired"])] for line, read in factor["read"].items()
    ]
    for side, equal in factor["equal"].items():
        rows.append([text(f"same {side}x{side} patches"), nothing, text(f"{equal / pairs:.1%} of {pairs:,}")])
    said = "none" if reader is None else f"{reader['right'] / reader['images']:.3f} of {reader['images']:,}"
    return [*rows, [text("ideal reader"), text(said), nothing]]


def _estimate(found: Estimate) -> Cell:
    """A number beside its interval, not above it: a table of many lines is read down its columns."""
    return Cell(scored(found["value"], found["ci"], 2).text, found["value"])


def locality_blocks(found: Mapping[str, Any]) -> list[Block]:
    """One table: a line for each kind of numbers, a column for the label and one for each class factor."""
    factors, (height, width) = list(found["rows"][0]["factors"]), found["shape"]
    rows = [
        [text(row["name"]), _share(row), *(_share(row["factors"][name]) for name in factors)] for row in found["rows"]
    ]
    reach = ", ".join(map(str, found["r"]))
    how = (
        f"{HOW[found['drawings']].replace(' R ', f' {reach} ')} Linear probes, protocol tuned: "
        f"{found['n_train']:,} images of train, "
        f"{found['n_test']:,} of test, {width}x{height} px, seed {found['seed']}. What they reach needs no whole; the "
        "rest may. docs/generators.md."
    )
    columns = ("", f"{found['score']}, %", *(f"{name}, %" for name in factors))
    return [Table("locality", f"How local is {found['data']}?", how, columns, rows)]


def _share(found: Mapping[str, Any]) -> Cell:
    return Cell(percents(found["value"], found["ci"]).text, found["value"])
