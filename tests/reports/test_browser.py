"""The page in a real browser: Debian's chromium, started here. Alone: pytest tests/reports/test_browser.py.

SHOTS=FOLDER keeps the screenshots.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probekit.output.pictures import save_both
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import html
from tests.reports.folders import HOSTILE, hostile_runs, make_run, picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium here; type: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here; type: pip install '.[dev]'")
from playwright.sync_api import BrowserContext, Page  # noqa: E402

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PNG = b"\x89PNG\r\n\x1a\n"
PATIENCE = 150_000  # ms, on a busy machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with sync_api.sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=FLAGS, accept_downloads=True, timeout=PATIENCE
        )
        context.set_default_timeout(PATIENCE)
        yield context
        context.close()


class Opened:
    """A page of runs, and all that it complained of or asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.complaints = page, list[str]()
        self.requests, self.stopped = list[str](), list[str]()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.stopped.append(f"{request.failure} {request.url}"))
        page.goto(path.as_uri())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    runs = [make_run(folder, "a", heatmap=True), make_run(folder, "b", method="simclr", noise=0.4)]
    path = folder / "report.html"
    path.write_text(html(build(collect(runs))), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: BrowserContext, written: Path) -> Iterator[Opened]:
    found = Opened(browser.new_page(), written)
    yield found
    found.page.close()


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_inner_texts()


def test_tables_and_figures_are_there_without_a_complaint(opened: Opened, written: Path) -> None:
    page = opened.page
    assert page.locator("table").count() > 15
    assert page.locator("figure svg").count() > 8
    assert page.locator("figure img").count() == 2
    for figure in page.locator("figure .drawing > *").all():
        box = figure.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 50
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert opened.complaints == []
    outside = [url for url in opened.requests if not url.startswith(("data:", "blob:"))]
    assert outside == [written.as_uri()]


def test_a_click_sorts_a_column_and_another_turns_it_round(opened: Opened) -> None:
    page, table = opened.page, "#run-0-a-linear-0-scores"
    header = page.locator(f"{table} th:nth-child(2)")
    before = column(page, table, 2)
    header.locator("button").click()
    down = column(page, table, 2)
    assert header.get_attribute("aria-sort") == "descending"
    header.locator("button").click()
    up = column(page, table, 2)
    assert [share(value) for value in up] == sorted(map(share, before))
    assert down == up[::-1] != up
    page.locator(f"{table} th:nth-child(1) button").click()
    assert column(page, table, 1) == sorted(column(page, table, 1))
    assert header.get_attribute("aria-sort") is None


def share(cell: str) -> float:
    """52.5 [41.7, 63.1] -> 52.5."""
    return float(cell.split()[0])


def test_what_is_missing_goes_last_either_way(opened: Opened) -> None:
    page, table = opened.page, "#compare-0-runs"
    page.evaluate("document.querySelector('#compare-0-runs tbody td:nth-child(5)').removeAttribute('data-value')")
    first = column(page, table, 1)[0]
    button = page.locator(f"{table} th:nth-child(5) button")
    for _ in range(2):
        button.click()
        assert column(page, table, 1)[-1] == first


def test_every_figure_is_saved_as_svg_and_png(opened: Opened, tmp_path: Path) -> None:
    for figure in opened.page.locator("figure").all():
        for kind in ("svg", "png"):
            begun = time.monotonic()
            with opened.page.expect_download() as download:
                figure.locator(f"button[data-save={kind}]").click()
            assert download.value.suggested_filename == f"{figure.get_attribute('id')}.{kind}"
            path = tmp_path / download.value.suggested_filename
            download.value.save_as(path)
            content = path.read_bytes()
            if kind == "svg":
                assert content.startswith(b"<svg")
                assert b"var(" not in content
            else:
                assert content.startswith(PNG)
                assert len(content) > 500
            # Chromium drops what goes beyond ten downloads a second.
            opened.page.wait_for_timeout(max(0.0, 120 - 1000 * (time.monotonic() - begun)))
    assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_phone_and_desktop_light_and_dark(opened: Opened, scheme: str, width: int, tmp_path: Path) -> None:
    page = opened.page
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = "[...document.querySelectorAll('.scroll > table')].map(table => table.parentElement)"
    page.wait_for_function(f"{boxes}.every(box => box.scrollWidth <= box.clientWidth + 1)")  # no table is cut
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 22, 26)" if scheme == "dark" else "rgb(251, 251, 252)"
    )
    shots = Path(os.environ.get("SHOTS", tmp_path))
    shot = shots / f"report-{scheme}-{width}.png"
    page.screenshot(path=shot, full_page="SHOTS" in os.environ)  # which takes seconds, and nobody would look at it
    assert shot.read_bytes().startswith(PNG)
    assert opened.complaints == []


def test_a_dark_page_has_dark_pictures(browser: BrowserContext, tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", heatmap=True)
    save_both(picture(), run.figures / "heatmap-last-gallery.png")  # the other picture has no dark twin
    path = tmp_path / "report.html"
    path.write_text(html(build(collect([run]))), encoding="utf-8")
    page = Opened(browser.new_page(), path).page
    shown = "[...document.images].filter(image => image.offsetParent).map(image => image.className).sort()"
    for scheme, expected in (("light", ["light", "light"]), ("dark", ["dark", "light"])):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert page.evaluate(shown) == expected
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(shown) == ["light", "light"]
    page.close()


def test_a_click_shows_a_wide_figure_whole_and_another_shrinks_it(opened: Opened) -> None:
    page = opened.page
    page.evaluate("document.querySelector('.drawing svg').setAttribute('width', 900)")
    page.evaluate("document.querySelector('.drawing svg').parentElement.classList.add('wide')")  # as of an exam's chart
    page.set_viewport_size({"width": 360, "height": 800})
    box = page.locator(".drawing.wide").first
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")
    box.click()
    assert box.evaluate("box => box.scrollWidth > box.clientWidth + 200")
    box.click()
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")


def test_small_parts_stand_side_by_side_where_there_is_room(opened: Opened) -> None:
    """Figures a column wide, and folded tables; a table that is opened goes across."""
    page = opened.page
    page.set_viewport_size({"width": 1280, "height": 800})
    wide = page.locator("#run-0-a-linear").evaluate("section => section.clientWidth")

    def boxes(*names: str) -> list[dict[str, float]]:
        return [
            page.locator(f"#run-0-a-{name}").evaluate("box => box.getBoundingClientRect().toJSON()") for name in names
        ]

    for pair in (("linear-0-bars", "linear-0-confusion"), ("run", "config")):
        first, second = boxes(*pair)
        assert (first["y"], first["right"] < second["x"]) == (second["y"], True), pair
        assert max(first["width"], second["width"]) < wide / 2
    page.locator("#run-0-a-config summary").first.click()
    assert boxes("config")[0]["width"] > 0.95 * wide
    page.set_viewport_size({"width": 390, "height": 800})
    first, second = boxes("linear-0-bars", "linear-0-confusion")
    assert first["bottom"] < second["y"]


def test_the_result_comes_first(opened: Opened) -> None:
    """One number in large letters, its baselines and factors, above all tables and the configuration."""
    page = opened.page
    text = page.locator(".headline").first.inner_text()
    assert "%" in text
    assert "random weights" in text
    heads = page.evaluate(
        "[...document.querySelectorAll('dl')].map(list => getComputedStyle(list, '::before').content)"
    )
    assert {'"baselines"', '"by factor"'} <= set(heads), "whose numbers these are stands above them"
    keys = page.evaluate("[...document.querySelectorAll('article:last-of-type > section')].map(section => section.id)")
    assert keys[-1].endswith("-about")


def test_the_theme_can_be_chosen(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(color_scheme="light")

    def ink() -> object:
        return page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--chart-ink').trim()")

    light = ink()
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "theme: dark"
    assert ink() != light
    page.emulate_media(color_scheme="dark")
    page.locator("#theme").click()
    assert ink() == light
    page.locator("#theme").click()
    assert ink() != light


def test_print_is_light_unfolded_and_without_buttons(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".buttons").first.is_hidden()
    assert (
        page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--chart-ink').trim()") == "#1c1e21"
    )
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("main details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details:not([open])").count() > 0
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_hostile_names_run_nothing(browser: BrowserContext, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(html(build(collect(hostile_runs(tmp_path)))), encoding="utf-8")
    opened = Opened(browser.new_page(), path)
    assert opened.page.evaluate("window.hacked") is None
    assert opened.complaints == []
    assert opened.page.locator("main script").count() == 0
    texts = "\n".join(opened.page.locator("td, th, text").all_text_contents())
    assert HOSTILE[0] in texts
    opened.page.set_viewport_size({"width": 360, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    opened.page.locator("#run-0-script-window-hacked-1-script-linear-0-confusion button[data-save=svg]").click()
    assert opened.page.evaluate("window.hacked") is None
    opened.page.close()


def test_the_second_wall_stands(browser: BrowserContext, written: Path, tmp_path: Path) -> None:
    """Were a name ever to slip through as a script, the page's policy would stop it."""
    path = tmp_path / "slipped.html"
    bad = "<img src='https://probekit.invalid/x.png' onerror='window.hacked=1'><script>window.hacked=1</script></main>"
    path.write_text(written.read_text(encoding="utf-8").replace("</main>", bad), encoding="utf-8")
    opened = Opened(browser.new_page(), path)
    assert opened.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in line for line in opened.complaints)
    assert opened.stopped == ["csp https://probekit.invalid/x.png"]
    opened.page.close()
