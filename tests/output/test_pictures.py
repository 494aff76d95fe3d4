"""Files of pictures and what all pictures share. Alone: pytest tests/output/test_pictures.py."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure
from matplotlib.text import Text

from probekit.output import formats
from probekit.output.charts import spread
from probekit.output.document import Chart
from probekit.output.mosaic import Mosaic, edges_of
from probekit.output.pictures import MARKS, check_picture, files_of, names_of, save
from probekit.output.style import COLUMN, PAGE, TEXT, without_path
from probekit.reports.build import build
from probekit.reports.collect import collect
from tests.output.marks import weak_marks
from tests.reports.folders import make_run


@pytest.fixture
def all_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "chosen", ())  # restored afterwards
    formats.choose("png, SVG,.pdf")


def figure(text: str = "a") -> Figure:
    found = Figure(figsize=(1, 1))
    found.text(0.5, 0.5, text)
    return found


@pytest.mark.usefixtures("all_formats")
def test_a_picture_is_saved_in_every_format_and_only_over_ours(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.b.png"
    assert save(figure(), out) == out
    found = {path.suffix: path.read_bytes() for path in files_of(out)}
    assert {path.name for path in out.parent.iterdir()} == {"a.b.png", "a.b.svg", "a.b.pdf"}
    assert names_of(out) == " and ".join(str(out.with_suffix(f".{kind}")) for kind in formats.FORMATS)
    for kind, mark in MARKS.items():
        assert mark in found[f".{kind}"]
    assert b"<text" in found[".svg"], "text stays text"
    save(figure(), out)
    assert {path.suffix: path.read_bytes() for path in files_of(out)} == found, "the same figure is the same file"
    save(figure("b"), out)
    for kind in formats.FORMATS:
        assert out.with_suffix(f".{kind}").read_bytes() != found[f".{kind}"]
        own = out.with_suffix(f".{kind}").read_bytes()
        out.with_suffix(f".{kind}").write_bytes(b"somebody's")
        with pytest.raises(ValueError, match=f"a.b.{kind} exists and is no picture that probekit drew"):
            save(figure(), out)
        assert out.with_suffix(f".{kind}").read_bytes() == b"somebody's"
        out.with_suffix(f".{kind}").write_bytes(own)


def test_without_the_option_there_is_the_file_that_was_named(tmp_path: Path) -> None:
    save(figure(), tmp_path / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["a.jpg", "a", ".png"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a picture NAME.png, NAME.svg or NAME.pdf.*type --out"):
        check_picture(tmp_path / name)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found 'jpg'; type: --format png,svg,pdf"):
        formats.choose("png,jpg")
    assert formats.chosen == ()


def test_a_picture_that_a_full_disk_cuts_leaves_the_old_one(tmp_path: Path) -> None:
    class Full(Figure):
        def savefig(self, fname: Any, **_: Any) -> None:
            Path(fname).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    old = save(figure(), tmp_path / "chart.svg").read_bytes()
    with pytest.raises(OSError, match=r"chart.svg cannot be written: the disk is full"):
        save(Full(), tmp_path / "chart.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["chart.svg"]
    assert (tmp_path / "chart.svg").read_bytes() == old


@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5))))
def test_edges_are_the_sides_between_inside_and_outside(mask: Any) -> None:
    """Each pixel inside gives its four sides; one that two of them share is none."""
    sides: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
    for y, x in zip(*np.nonzero(mask), strict=True):
        a, b, c, d = (x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)
        for side in ((a, b), (c, d), (a, c), (b, d)):
            sides[side] = sides.get(side, 0) + 1
    expected = {side for side, times in sides.items() if times == 1}
    found = [tuple(map(tuple, side)) for side in edges_of(mask).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("file:/somewhere/a.safetensors last", "a.safetensors last"),
        ("hf:some/where/vit", "hf:vit"),
        ("py:module:function", "py:module:function"),
        ("cat/dog", "cat/dog"),
    ],
)
def test_titles_have_names_and_not_paths(name: str, shown: str) -> None:
    assert without_path(name) == shown


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.01, 0.12))
def test_names_at_the_ends_of_lines_keep_their_order_and_distance(wanted: list[float], apart: float) -> None:
    found = spread(wanted, apart)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(found)[order]) >= apart - 1e-9).all()
    assert max(found, default=0) <= 1 + 1e-9
    gaps = np.diff(np.sort([*wanted, 1 + apart]))
    if (gaps >= apart).all():
        assert found == pytest.approx(wanted), "where there is room all stay where they belong"


@given(st.integers(1, 6), st.integers(1, 30), st.floats(0, 1.2))
def test_pictures_of_images_have_one_of_two_widths(rows: int, columns: int, left: float) -> None:
    mosaic = Mosaic(rows, columns, title="a title\nand more", left=left)
    width = mosaic.figure.get_size_inches()[0]
    assert width in (COLUMN, PAGE)
    box = mosaic.axes.get_position()
    assert box.x0 >= 0
    assert box.x1 <= 1 + 1e-9
    assert (box.x1 - box.x0) * width == pytest.approx(mosaic.cell * columns)
    assert (box.y1 - box.y0) * mosaic.figure.get_size_inches()[1] == pytest.approx(mosaic.cell * rows)


def test_charts_have_one_of_two_widths_one_size_of_letters_and_marks_that_are_seen(tmp_path: Path) -> None:
    """All that a report of every measurement draws."""
    runs = [make_run(tmp_path, "a", heatmap=True), make_run(tmp_path, "b", method="simclr", noise=0.4)]
    document = build(collect(runs))
    charts = [block for chapter in document.chapters for section in chapter.sections for block in section.blocks]
    drawn = {block.key: block.draw() for block in charts if isinstance(block, Chart)}
    assert len(drawn) > 8
    for key, found in drawn.items():
        assert found.get_size_inches()[0] in (COLUMN, PAGE), key
        found.draw_without_rendering()
        sizes = {text.get_fontsize() for text in found.findobj(Text) if text.get_text()}
        assert sizes == {TEXT}, key
        assert weak_marks(found) == [], key
