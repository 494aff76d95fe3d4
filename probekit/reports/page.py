"""`report` and `compare`: from names of runs to a page, never over what probekit did not report, or to tables."""

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import join, quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from rich.console import Console

from probekit.data.locate import run_or_newest
from probekit.files import size_of, write_text
from probekit.h5 import read_info
from probekit.output.document import Block, Chart, Document, Note, Picture, Table
from probekit.output.formats import dark_of, is_dark
from probekit.output.pictures import marked
from probekit.output.style import DPI, PALETTE
from probekit.output.svg import PIXELS, to_svg
from probekit.output.terminal import show_blocks
from probekit.registry import check_named
from probekit.reports import SCHEMA
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.comparison import AGAIN, group_section, scores_section
from probekit.results import joined_name, refuse_twice
from probekit.run import Run, open_run, to_json
from probekit.visible import visible
from probekit.weights import Weights

WRITERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "html": lambda content: html(build(content)),
    "md": lambda content: markdown(build(content)),
    "json": lambda content: to_json(content) + "\n",
}
LIMIT = 4_900_000  # bytes of a page: under 5 MB, with room for what stands around a figure
FRAME = 600  # bytes of a figure's title, buttons and tags, at most
BASE64 = 4 / 3  # characters a byte
SPECIAL = re.compile(r"([\\`*_\[\]|#~$!])")  # what Markdown, or its common dialects, would take for a sign of its own


def run_report(
    names: Sequence[str], *, out: Path | None, form: str, runs: Path, reports: Path, console: Console
) -> Path | str:
    """Reads runs and writes what they hold; gives the file, or the text if there is none to write it to.

    `names` none: the newest. `out` None: html goes to `runs`/NAME/report.html, or to `reports`/NAMES.html for several
    runs, and md and json are returned. A ValueError if there is no such run, one is named twice, or `out` is no report
    of probekit's.
    """
    check_named("format", form, WRITERS)
    found = [run_or_newest(name, runs, console) for name in names or (None,)]
    refuse_twice(found)
    if out is None and form == "html":
        out = found[0].path / "report.html" if len(found) == 1 else reports / f"{joined_name(found)}.html"
    if out is not None:
        check_report(out)
    content = collect(found)
    text = WRITERS[form](content)
    if out is None:
        return text
    write_report(out, text)
    console.print(f"report {out} ({len(text.encode('utf-8', 'backslashreplace')) / 1e6:.1f} MB)")
    for run in content["runs"]:
        for line in run["left_out"]:
            console.print(f"note: {line}")
    unprobed = next((run["argument"] for run in content["runs"] if not any(run["results"].values())), None)
    if unprobed or form == "html":
        console.print(f"next: {join(['probekit', 'probe', *unprobed]) if unprobed else 'open it in a browser'}")
    return out


def check_report(out: Path) -> None:
    """Refuses a folder, and a file that is there and is no report."""
    if out.is_dir():
        raise ValueError(
            f"expected a file for the report, found the folder {out}; type --out {quote(str(out / 'report.html'))}"
        )
    if out.exists() and not marked(out, SCHEMA.encode()):
        raise ValueError(f"{out} exists and is no report of probekit's; move it away or choose another --out")


def write_report(out: Path, text: str) -> None:
    """Writes a report, over an older one alone; its folder is made."""
    check_report(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)


def run_compare(
    names: Sequence[str],
    *,
    data: Path | None,
    protocol: str | None,
    checkpoint: str | None,
    runs: Path,
    console: Console,
    quiet: bool,
) -> dict[str, Any]:
    """Compares the encoders of runs that were probed on the same test images.

    `names`: two runs or more; RUN@POOL, RUN:LAYER or RUN:LAYER@POOL is what a run has when it is read so. `data`,
    `protocol`, `checkpoint`: only results of these; None is all. `quiet` leaves the tables out. Gives {"groups",
    "scores", "left_out"} as `report.compare.compare` (docs/report.md). A ValueError if there are fewer than two runs,
    one is named twice, there is no such pooling, or none can be compared.
    """
    asked = [_with_reading(name, runs) for name in names]
    opened, readings = [run for run, _ in asked], [read for _, read in asked]
    for read in dict.fromkeys(readings):
        refuse_twice([run for run, own in asked if own == read])
    if len(opened) < 2:
        raise ValueError(f"expected two runs or more to compare, found {len(opened)}; type: probekit compare RUN RUN")
    wanted = {
        "data_hash": None if data is None else read_info(data).content_hash,
        "protocol": protocol,
        "checkpoint": checkpoint,
    }
    comparison: dict[str, Any] = collect(opened, readings)["comparison"]
    every = {kind: comparison[kind] for kind in ("groups", "scores")}
    chosen = {
        kind: [g for g in found if all(value in (None, g[key]) for key, value in wanted.items())]
        for kind, found in every.items()
    }
    if not any(chosen.values()):
        others = sorted(
            {f"{g['protocol']}, {g['checkpoint']}, on {g['data']}" for found in every.values() for g in found}
        )
        told = "; ".join(others) or "; ".join(comparison["left_out"]) or "nothing in common"
        raise ValueError(f"expected results of two of these runs on the same test images, found: {told}")
    if not quiet:
        _show(chosen, console)
        for line in comparison["left_out"]:
            console.print(f"note: {line}")
    return {**chosen, "left_out": comparison["left_out"]}


def _show(chosen: Mapping[str, Sequence[Mapping[str, Any]]], console: Console) -> None:
    sections = [group_section(group, "compare") for group in chosen["groups"]]
    for section in (*sections, *(scores_section(group, "compare") for group in chosen["scores"])):
        console.print()
        console.print(section.title, style="bold")  # a rule would be cut where the terminal ends
        # A terminal has no head of a report, of which `AGAIN` tells.
        blocks = [
            replace(block, how=block.how.removesuffix(AGAIN).rstrip()) if isinstance(block, Table) else block
            for block in section.blocks
        ]
        show_blocks(blocks, console)


def _with_reading(name: str, runs: Path) -> tuple[Run, Weights | None]:
    """RUN, RUN@POOL, RUN:LAYER or RUN:LAYER@POOL; a run whose own name has an "@" or a ":" is that run."""

    def there(part: str) -> bool:
        return (runs / part).exists() or Path(part).exists()

    front, at, pool = name.rpartition("@") if "@" in name and not there(name) else (name, "", "")
    stem, colon, layer = front.partition(":") if ":" in front and not there(front) else (front, "", "")
    return open_run(stem, runs), Weights(pool=pool or None, layer=layer or None) if at or colon else None


def html(document: Document) -> str:
    """The page; figures that would make it larger than `LIMIT` are left out, charts last, and it says which.

    A ValueError if the tables alone are larger.
    """
    blocks = [b for chapter in document.chapters for section in chapter.sections for b in section.blocks]
    shown: dict[str, Markup] = {}
    size: float = len(_page(document, shown, []).encode())
    if size > LIMIT:
        raise ValueError(f"expected tables of at most {LIMIT:,} bytes, found {size:,}; name fewer runs, or --json")
    left_out: list[str] = []
    full = False
    for chart in (block for block in blocks if isinstance(block, Chart)):
        svg = "" if full else to_svg(chart.draw(), chart.key)
        full = full or size + len(svg.encode()) + FRAME > LIMIT
        if full:
            left_out.append(f"{chart.title}: the page would be larger than 5 MB; name fewer runs")
        else:
            shown[chart.key] = Markup(svg)  # ElementTree wrote it, and escapes
            size += len(svg.encode()) + FRAME
    for picture in (block for block in blocks if isinstance(block, Picture)):
        path = picture.path
        try:
            more = FRAME + BASE64 * size_of(path)  # known before it is read
            if size + more > LIMIT:
                left_out.append(f"{path}: the page would be larger than 5 MB; the picture stands there")
            else:
                shown[picture.key] = _image(picture, path)
                size += more
                path = dark_of(path)
                more = FRAME + BASE64 * size_of(path) if path.is_file() else LIMIT
                if size + more <= LIMIT:
                    shown[picture.key] += _image(picture, path)
                    size += more
        except Exception:  # whatever the bytes make of the reader
            left_out.append(f"{path}: no PNG picture that can be read")
    return _page(document, shown, left_out)


def fragment(title: str, blocks: Sequence[Block]) -> str:
    """Notes, tables and charts as HTML for a notebook, which has a style of its own."""
    charts = {block.key: Markup(to_svg(block.draw(), block.key)) for block in blocks if isinstance(block, Chart)}
    template = _environment(autoescape=True).get_template("fragment.html.j2")
    return template.render(title=title, blocks=blocks, shown=charts)


def _page(document: Document, shown: Mapping[str, Markup], left_out: list[str]) -> str:
    script = (Path(__file__).parent / "templates/script.js").read_text(encoding="utf-8")
    page = (
        _environment(autoescape=True)
        .get_template("page.html.j2")
        .render(
            document=document,
            schema=SCHEMA,
            shown=shown,
            left_out=left_out,
            palette=PALETTE,
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a path of the system's may be no UTF-8


def _environment(**more: Any) -> Environment:
    """Templates, which ask a block what it is."""
    loader = PackageLoader("probekit.reports")
    found = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **more)
    kinds: dict[str, type[Block]] = {"table": Table, "note": Note, "picture": Picture}
    found.tests |= {name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()}
    return found


def _image(picture: Picture, path: Path) -> Markup:
    """An `img` that holds the file as it is; raises one of many errors if it is no whole PNG file.

    As wide as it is on paper, in inches of the page's figures.
    """
    content = path.read_bytes()
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),  # for who looks at the page
        Image.open(io.BytesIO(content), formats=["PNG"]) as image,
    ):
        width, height = image.size
        image.verify()
    data = base64.b64encode(content).decode()
    wide, high = (max(1, round(side * PIXELS / DPI)) for side in (width, height))
    tag = Markup('<img class="{}" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">')
    return tag.format("dark" if is_dark(path) else "light", data, wide, high, picture.title)


def markdown(document: Document) -> str:
    """The text, with a line break at its end; what is charts alone has no heading in it."""
    chapters = []
    for chapter in document.chapters:
        read = [section for section in chapter.sections if not all(isinstance(b, Chart) for b in section.blocks)]
        chapters.append(replace(chapter, sections=read))
    document = replace(document, chapters=chapters)
    environment = _environment(autoescape=False, finalize=escaped)  # which escapes every expression, for Markdown
    environment.filters["code"] = _code
    page = environment.get_template("page.md.j2").render(document=document, schema=SCHEMA)
    return visible(re.sub(r"\n{3,}", "\n\n", page).strip()) + "\n"


def escaped(value: Any) -> Any:
    """Text on one line that Markdown shows as it is; a link or a tag in it stays dead."""
    if isinstance(value, Markup):
        return value
    line = " ".join(str(value).split())
    return SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _code(value: str) -> Markup:
    """Inline code: a fence longer than any run of back-ticks in it (CommonMark 0.31, 6.1)."""
    line = " ".join(value.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return Markup(f"{fence}{space}{line}{space}{fence}")  # code is shown as it is
