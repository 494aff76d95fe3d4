"""A document as Markdown: its tables and lines; charts stand in the HTML page only."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probekit.output.document import Document, Note, Picture, Table
from probekit.report import SCHEMA
from probekit.visible import visible

SPECIAL = re.compile(r"([\\`*_\[\]|#~$!])")  # what Markdown, or its common dialects, would take for a sign of its own


def render(document: Document) -> str:
    """The text, with a line break at its end."""
    environment = Environment(
        loader=PackageLoader("probekit.report"),
        autoescape=False,  # `finalize` escapes every expression, for Markdown
        finalize=_escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {
        "table": lambda block: isinstance(block, Table),
        "note": lambda block: isinstance(block, Note),
        "picture": lambda block: isinstance(block, Picture),
    }
    environment.filters["code"] = _code
    page = environment.get_template("page.md.j2").render(document=document, schema=SCHEMA)
    return visible(re.sub(r"\n{3,}", "\n\n", page).strip()) + "\n"


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
