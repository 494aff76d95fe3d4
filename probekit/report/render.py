"""A document as one HTML file that needs nothing else, no network either; or as Markdown, without charts."""

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from probekit.files import size_of
from probekit.output.charts import PALETTE, to_svg
from probekit.output.document import Block, Chart, Document, Note, Picture, Section, Table
from probekit.report import SCHEMA
from probekit.visible import visible

LIMIT = 4_900_000  # bytes of a page: under 5 MB, with room for what stands around a figure
FRAME = 600  # bytes of a figure's title, buttons and tags, at most
BASE64 = 4 / 3  # characters a byte

SPECIAL = re.compile(r"([\\`*_\[\]|#~$!])")  # what Markdown, or its common dialects, would take for a sign of its own


def html(document: Document) -> str:
    """The page; figures that would make it larger than `LIMIT` are left out, charts last, and it says which.

    A ValueError if the tables alone are larger.
    """
    blocks = list(_blocks(document))
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
        try:
            more = FRAME + BASE64 * size_of(picture.path)  # known before it is read
            if size + more > LIMIT:
                left_out.append(f"{picture.path}: the page would be larger than 5 MB; the picture stands there")
            else:
                shown[picture.key] = _image(picture)
                size += more
        except Exception:  # whatever the bytes make of the reader
            left_out.append(f"{picture.path}: no PNG picture that can be read")
    return _page(document, shown, left_out)


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
    loader = PackageLoader("probekit.report")
    found = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **more)
    kinds: dict[str, type[Block]] = {"table": Table, "note": Note, "picture": Picture}
    found.tests |= {name: lambda block, kind=kind: isinstance(block, kind) for name, kind in kinds.items()}
    return found


def _blocks(document: Document) -> Iterator[Block]:
    for chapter in document.chapters:
        for section in chapter.sections:
            yield from section.blocks


def _image(picture: Picture) -> Markup:
    """An `img` that holds the file as it is; raises one of many errors if it is no whole PNG file."""
    content = picture.path.read_bytes()
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),  # for who looks at the page
        Image.open(io.BytesIO(content), formats=["PNG"]) as image,
    ):
        width, height = image.size
        image.verify()
    data = base64.b64encode(content).decode()
    tag = Markup('<img src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">')
    return tag.format(data, width, height, picture.title)


def markdown(document: Document) -> str:
    """The text, with a line break at its end; what is charts alone has no heading in it."""
    chapters = [replace(chapter, sections=[*filter(_readable, chapter.sections)]) for chapter in document.chapters]
    document = replace(document, chapters=chapters)
    environment = _environment(autoescape=False, finalize=_escape)  # which escapes every expression, for Markdown
    environment.filters["code"] = _code
    page = environment.get_template("page.md.j2").render(document=document, schema=SCHEMA)
    return visible(re.sub(r"\n{3,}", "\n\n", page).strip()) + "\n"


def _readable(section: Section) -> bool:
    return not all(isinstance(block, Chart) for block in section.blocks)


def _escape(value: Any) -> Any:
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
