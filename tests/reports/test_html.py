"""The page as text: self-contained, escaped, small, the same twice. Alone: pytest tests/reports/test_html.py."""

import base64
import hashlib
import json
import os
import re
import shlex
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from probekit.output.charts import draw_confusion, draw_lines
from probekit.output.document import Chapter, Document, Note, Picture, Section, Table
from probekit.output.style import PALETTE
from probekit.output.svg import to_svg
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import html, markdown
from probekit.run import IMPORTED, Run
from tests.reports.folders import HOSTILE, hostile_runs, make_run

CALLS = re.compile(r"https?:[^\s\"'<>)]+")
NAMES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # of XML namespaces: nothing is loaded


class Reader(HTMLParser):
    """Tags, attributes, texts by tag, and the text of each figure's and table's `how`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)


def page_of(*runs: Run) -> str:
    return html(build(collect(runs)))


@pytest.fixture(scope="module")
def full_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("full")
    return [make_run(folder, "a", heatmap=True), make_run(folder, "b", method="simclr", noise=0.4)]


@pytest.fixture(scope="module")
def full_page(full_runs: list[Run]) -> str:
    return page_of(*full_runs)


def test_nothing_is_loaded(full_page: str) -> None:
    assert set(CALLS.findall(full_page)) <= NAMES
    loads = [
        (t, n, v) for t, n, v in Reader(full_page).attributes if n in ("src", "href", "xlink:href", "action", "data")
    ]
    assert loads
    assert all(value.startswith(("#", "data:image/png;base64,")) for _, _, value in loads)
    assert "@import" not in full_page
    assert "url(" not in full_page.replace("url(#", "")
    assert len(full_page.encode()) < 5_000_000


def test_only_our_script_may_run(full_page: str) -> None:
    script = full_page.split("<script>")[1].split("</script>")[0]
    (policy,) = [v for t, n, v in Reader(full_page).attributes if t == "meta" and n == "content" and "default-src" in v]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_every_part_is_there(full_page: str) -> None:
    headings = " ".join(Reader(full_page).text["h3"])
    for part in (
        "What was run",
        "Linear probe",
        "Learning curves",
        "Label-free health",
        "Heatmaps",
        "Reconstructions",
    ):
        assert part in headings
    assert "Comparison" in Reader(full_page).text["h2"]
    titles = " ".join(Reader(full_page).text["h4"])
    for title in (
        "Scores against the evidence of corner",
        "Perturbation scores: seen through the map",
        "Perturbation scores: swap with the counterfactual, corner",
        "Counterfactual swap curves, corner",
        "Sanity check by random weights",
        "Maps of single images",
        "Confusion matrix of conrec last",
        "Spectrum of the embedding",
    ):
        assert title in titles
    assert "Left out: swap curves of attention: it has no target." in full_page
    assert "Explained: a linear probe, target pair, right on 80.0 % of these images [70.0, 90.0]." in full_page
    assert "Hiding a black ground with black costs nothing" in full_page


def test_every_table_and_figure_says_how(full_page: str) -> None:
    blocks = re.split(r"<div class=\"block\"|<figure id", full_page)[1:]
    counted = Reader(full_page).tags
    assert len(blocks) == counted["table"] + counted["figure"] > 20
    for block in blocks:
        how = re.search(r'<p class="how">(.+?)</p>', block, re.S)
        assert how
        assert len(how[1]) > 30


def test_sections_say_unusual_options_and_of_a_long_list_how_many(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", heatmap=True)
    content = json.loads((run.results / "heatmap-last.json").read_text())
    content["options"] |= {"maps": ["cam", "gradcam", "attention", "occlusion"], "perturb": 0, "n": 200}
    (run.results / "heatmap-last.json").write_text(json.dumps(content))
    assert "Protocol tuned, 4 maps, perturb 0, checkpoint last, on data/rect-tri.h5. Maps" in page_of(run)


def test_ids_are_unique(full_page: str) -> None:
    ids = Counter(value for _, name, value in Reader(full_page).attributes if name == "id")
    assert [name for name, times in ids.items() if times > 1] == []
    targets = {v[1:] for _, n, v in Reader(full_page).attributes if n in ("href", "xlink:href") and v.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", full_page))
    assert targets <= ids.keys()


def test_maps_come_before_baselines_and_the_ceiling(full_page: str) -> None:
    table = full_page.split("<h4>Scores against the evidence of corner")[1].split("</details>")[0]
    kinds = re.findall(r"<td[^>]*>[^<]*</td><td[^>]*>(map|baseline|ceiling)<", table)
    assert kinds == ["map", "map", "baseline", "ceiling"]
    assert '0.40 <span class="ends">[0.35, 0.45]</span>' in table
    assert "relevance mass 200, rank accuracy 3" in table
    assert "0.021" in table


def test_tables_are_folded_where_a_picture_shows_what_they_hold(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", heatmap=True)

    def open_tables() -> list[str]:
        section = next(s for s in build(collect([run])).chapters[0].sections if s.title == "Heatmaps")
        return [block.title for block in section.blocks if isinstance(block, Table) and not block.folded]

    assert open_tables() == []
    (run.figures / "heatmap-last-gallery.png").unlink()
    assert open_tables() == ["Scores against the evidence of corner"]


def test_an_imported_encoder_has_no_empty_sections(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", full=False)
    content = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(content | {"state": IMPORTED}))
    page = page_of(run)
    assert [title for title in ("Learning curves", "Reconstructions") if f"<h3>{title}" in page] == []
    assert "it was not trained here, and has neither views nor a decoder" in page


def test_the_same_twice(full_runs: list[Run], full_page: str) -> None:
    assert page_of(*full_runs) == full_page


def test_what_is_missing_is_a_line_with_a_command(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, "bare", full=False))
    for command in ("probekit probe", "probekit heatmap", "probekit show", "probekit pretrain conrec --resume"):
        assert re.search(rf'<p class="note">[^<]*<code>{command}', page), command


@pytest.mark.usefixtures("plain_pictures")
@pytest.mark.parametrize("full", [False, True])
def test_commands_name_the_run_by_one_word(full: bool, tmp_path: Path) -> None:
    run = make_run(tmp_path / "other", "it's two words", full=full)
    commands = [unescape(found) for found in re.findall("<code>(probekit [^<]*)", page_of(run))]
    named = [command for command in commands if "two words" in command]
    assert len(named) > 1
    assert [command for command in named if str(run.path) not in shlex.split(command)] == []


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    page = page_of(*hostile_runs(tmp_path))
    read = Reader(page)
    assert read.tags["script"] == 1
    assert read.tags["style"] == 1
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert all(
        value.startswith(("#", "data:image/png")) for _, name, value in read.attributes if name in ("src", "href")
    )
    assert "49" not in "".join(read.text["title"])
    shown = "".join("".join(texts) for texts in read.text.values())
    for name in HOSTILE:
        assert name in shown
    assert "left out of this page" not in page  # each was drawn


def test_hostile_names_stay_text_in_markdown(tmp_path: Path) -> None:
    text = markdown(build(collect(hostile_runs(tmp_path))))
    plain = re.sub(r"(`+) ?.*? ?\1(?!`)", "", text)  # without inline code, where nothing is read as a tag
    assert "<script" not in plain
    assert "<img" not in plain
    assert "](javascript" not in plain.replace("\\]", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows
    assert [line for line in rows if not line.endswith("|")] == []


def test_every_heading_of_markdown_has_something_below(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, name, seed=seed) for seed, name in enumerate("ab")]
    document = build(collect(runs))
    assert "Beside each other" in [section.title for section in document.chapters[0].sections]  # curves
    lines = [line for line in markdown(document).splitlines() if line]
    assert [two for two in pairwise([*lines, "#"]) if all(line[0] == "#" for line in two) and two[0][:3] == "###"] == []


def test_markdown_tables_are_whole(tmp_path: Path) -> None:
    text = markdown(build(collect([make_run(tmp_path, "a", heatmap=True)])))
    assert text.startswith("<!-- probekit-report/1 -->\n# probekit: a\n")
    widths = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = table.splitlines()
        assert len(lines) >= 3
        assert set(lines[1]) == {"|", "-"}
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(columns) == 1, table
        widths.append(columns)
    assert len(widths) > 8
    assert "| conrec last |" in text


def pictures(folder: Path, count: int, size: int) -> Document:
    rng = np.random.default_rng(0)
    blocks: list[Any] = [Note("before")]
    for i in range(count):
        path = folder / f"{i}.png"
        Image.frombytes("L", (size // 8, 8), rng.bytes(size // 8 * 8)).save(path)  # noise cannot be packed
        blocks.append(Picture(f"p{i}", f"picture {i}", "how it was made", path))
    return Document("t", "probekit report", [Chapter("c", "c", "", [Section("s", "s", blocks)])])


def test_pictures_beyond_the_budget_are_left_out_by_name(tmp_path: Path) -> None:
    page = html(pictures(tmp_path, 5, 800_000))
    assert 4_200_000 < len(page.encode()) < 5_000_000
    assert Reader(page).tags["img"] == 4
    assert f"{tmp_path / '4.png'}: the page would be larger than 5 MB" in page
    assert "picture 4: left out of this page" in page


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    document = pictures(tmp_path, 8, 400)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(whole[:40] + b"root:x:0:0:root:/root:/bin/bash")
    (tmp_path / "3.png").write_bytes(whole[:-20])
    (tmp_path / "4.png").unlink()
    os.mkfifo(tmp_path / "4.png")
    with (tmp_path / "5.png").open("r+b") as file:
        file.truncate(2**40)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "6.png")  # of 400 million pixels
    page = html(document)
    assert Reader(page).tags["img"] == 1
    assert page.count("no PNG picture that can be read") == 6
    assert f"{tmp_path / '5.png'}: the page would be larger than 5 MB" in page


def test_a_dark_twin_that_is_no_picture_is_named_itself(tmp_path: Path) -> None:
    document = pictures(tmp_path, 1, 400)
    (tmp_path / "0.dark.png").write_text("no PNG")
    page = html(document)
    assert Reader(page).tags["img"] == 1
    assert f"{tmp_path / '0.dark.png'}: no PNG picture that can be read" in page
    assert f"{tmp_path / '0.png'}: " not in page, "it is shown"


def test_tables_too_large_are_refused() -> None:
    notes = [Note("x" * 1000)] * 5000
    with pytest.raises(ValueError, match="name fewer runs"):
        html(Document("t", "c", [Chapter("c", "c", "", [Section("s", "s", notes)])]))


def test_charts_follow_the_page_and_fall_back_to_light() -> None:
    figure = draw_lines([("a$b", [1, 2], [0.1, 0.2])], x="epoch", y="accuracy, %", percents=True)
    svg = to_svg(figure, "k")
    root = ElementTree.fromstring(svg)
    assert root.attrib["viewBox"]
    assert f"var(--chart-blue, {PALETTE['blue'][0]})" in svg
    colours = set(re.findall(r"(?<!, )#[0-9a-f]{6}\b", re.sub(r'(id|href)="[^"]*"|url\(#[^)]*\)', "", svg)))
    assert colours <= {"#000000", "#ffffff"}  # of what is not drawn
    assert "a$b" in "".join(root.itertext())
    assert all(element.get("id", "k.").startswith("k.") for element in root.iter())
    assert svg == to_svg(draw_lines([("a$b", [1, 2], [0.1, 0.2])], x="epoch", y="accuracy, %", percents=True), "k")


@pytest.mark.parametrize("k", [2, 12, 13, 130])
def test_confusion_matrices_of_any_size(k: int) -> None:
    counts = np.eye(k, dtype=int) * 3
    svg = to_svg(draw_confusion(counts.tolist(), [f"klasse ${i}$ \x00 漢字" for i in range(k)]), "k")
    root = ElementTree.fromstring(svg)
    assert len(svg) < 300_000
    assert ("3" in [text.strip() for text in root.itertext()]) or k > 12
