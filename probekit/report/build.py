"""From what `collect` read to a document: a chapter a run, after the comparison."""

from collections.abc import Callable, Mapping
from typing import Any

from probekit.output.document import Chapter, Document, Section, key_of
from probekit.report.about import about_section, curves_section, pictures_section
from probekit.report.comparison import comparison_chapter
from probekit.report.further import further_section
from probekit.report.localising import heatmap_section
from probekit.report.probing import confusion_section, health_section, lead, probe_section

SECTIONS: tuple[Callable[[Mapping[str, Any], str], Section], ...] = (
    about_section,
    probe_section,
    further_section,
    curves_section,
    confusion_section,
    health_section,
    heatmap_section,
    pictures_section,
)

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
    return Chapter(key, run["name"], lead(run), [section(run, f"run-{key}") for section in SECTIONS])
