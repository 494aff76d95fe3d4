"""From what `collect` read to a document: the comparison, then a chapter a run with a section a measurement."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from probekit.measurement import Measurement, Result, measurement, measurements
from probekit.output.document import (
    Block,
    Chapter,
    Document,
    Note,
    Picture,
    Section,
    Table,
    command,
    in_a_line,
    key_of,
)
from probekit.report.about import about_section, curves_section, pictures_section
from probekit.report.compare import with_branches
from probekit.report.comparison import comparison_chapter
from probekit.results import picture_of
from probekit.run import Run

MOST_NAMES = 4  # in the title


def build(report: Mapping[str, Any]) -> Document:
    """Lays out what `collect.collect` gives."""
    chapters = [] if report["comparison"] is None else [comparison_chapter(report)]
    chapters += [_chapter(run, f"{i}-{key_of(run['name'])}") for i, run in enumerate(report["runs"])]
    names = [run["name"] for run in report["runs"]]
    title = ", ".join(names) if len(names) <= MOST_NAMES else f"{names[0]} and {len(names) - 1} more runs"
    return Document(f"probekit: {title}", report["command"], chapters)


def _chapter(run: Mapping[str, Any], key: str) -> Chapter:
    prefix = f"run-{key}"
    about, *last = (section(run, prefix) for section in (about_section, curves_section, pictures_section))
    measured = measured_sections(run, prefix)
    leading = [f"{prefix}-{each.name}" for each in measurements() if each.leads]
    measured.sort(key=lambda section: section.key not in leading)
    leads = sum(section.key in leading for section in measured)
    return Chapter(key, run["name"], lead(run), [*measured[:leads], about, *measured[leads:], *last])


def lead(run: Mapping[str, Any]) -> str:
    """The run in a sentence: its settings, and the first thing that its first measurement says."""
    method = f"{with_branches(run['config'])}, seed {run['config']['seed']}, on {run['dataset']['name']}"
    for name, results in run["results"].items():
        for result in results:
            told = measurement(name).sentences(result)[:1]
            where = "" if result["data_hash"] == run["dataset"]["hash"] else f"on {result['data']}: "
            if told:
                return f"{method}: {where}{told[0]}"
    measured = [name for name, results in run["results"].items() if results]
    return f"{method}; {'measured: ' + ', '.join(measured) if measured else 'not measured yet'}."


def measured_sections(run: Mapping[str, Any], key: str) -> list[Section]:
    """What was measured, then what was not and how to."""
    sections = [
        Section(f"{key}-{name}", measurement(name).title, _results(run, measurement(name), results, f"{key}-{name}"))
        for name, results in run["results"].items()
        if results
    ]
    missing = [each for each in measurements() if not run["results"][each.name] and each.proposed(run)]
    by_command: dict[str, list[Measurement]] = {}
    for each in missing:
        by_command.setdefault(each.command, []).append(each)
    notes = [
        Note(
            f"Not measured yet: {', '.join(in_a_line(each.title) for each in own)}. "
            f"Measure by typing{ASIDES.get(name, '')}:",
            command("probekit", name, *run["argument"], *(word for each in own for word in each.words)),
        )
        for name, own in by_command.items()
    ]
    return [*sections, *([Section(f"{key}-unmeasured", "Not measured yet", notes)] if notes else [])]


ASIDES = {"probe": " (images without labels: with --data LABELLED.h5)"}


def _results(run: Mapping[str, Any], reader: Measurement, results: list[Result], key: str) -> list[Block]:
    blocks: list[Block] = []
    for i, result in enumerate(results):
        blocks += _blocks(Run(Path(run["path"])), reader, result, f"{key}-{i}")
    return blocks


def _blocks(run: Run, reader: Measurement, result: Result, key: str) -> list[Block]:
    options = "".join(f"{told}, " for told in reader.unusual(result["options"]))
    what = f"protocol {result['protocol']}, {options}checkpoint {result['checkpoint']}, on {result['data']}"
    again = f"Again: {result['command']}"
    whole = f"{result['how']} Data: {result['data']}, encoder after {result['after']}; seed {result['seed']}."
    blocks: list[Block] = []
    for number, table in enumerate(reader.tables(result)):
        about = whole if number == 0 else f"As above: {what}."
        how = " ".join(filter(None, (about, table.how, again)))
        blocks.append(replace(table, key=f"{key}-{table.key}", title=f"{table.title}: {what}", how=how))
    for chart in reader.charts(result):
        titled = replace(chart, title=f"{chart.title}: {what}", how=f"{chart.how} {again}", key=f"{key}-{chart.key}")
        path = picture_of(run, Path(result["file"]).stem, chart.key)
        if not chart.photographs:
            blocks.append(titled)
        elif path.is_file():  # drawn when it was measured
            blocks.append(Picture(titled.key, titled.title, titled.how, path))
    if reader.leads:
        blocks.sort(key=lambda block: isinstance(block, Table))
    told = [*result.get("certificate", ()), *result["notes"]]
    return [*map(Note, reader.sentences(result)), *blocks, *map(Note, told)]
