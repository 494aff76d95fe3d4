"""From what `collect` read to a document: a chapter a run, after the comparison."""

from collections.abc import Mapping
from typing import Any

from probekit.output.document import Chapter, Document, key_of
from probekit.report.about import about_section, curves_section, pictures_section
from probekit.report.comparison import comparison_chapter
from probekit.report.measured import lead, measured_sections

MOST_NAMES = 4  # in the title


def build(report: Mapping[str, Any]) -> Document:
    """Lays out a report.

    Args:
        report: As `collect.collect` gives it.
    """
    chapters = [] if report["comparison"] is None else [comparison_chapter(report)]
    chapters += [_chapter(run, f"{i}-{key_of(run['name'])}") for i, run in enumerate(report["runs"])]
    names = [run["name"] for run in report["runs"]]
    title = ", ".join(names) if len(names) <= MOST_NAMES else f"{names[0]} and {len(names) - 1} more runs"
    return Document(f"probekit: {title}", report["command"], chapters)


def _chapter(run: Mapping[str, Any], key: str) -> Chapter:
    prefix = f"run-{key}"
    first, *last = (section(run, prefix) for section in (about_section, curves_section, pictures_section))
    return Chapter(key, run["name"], lead(run), [first, *measured_sections(run, prefix), *last])
