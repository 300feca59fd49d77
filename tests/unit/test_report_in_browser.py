"""The report in a real browser: nothing fails, nothing is cut off, nothing is empty, and all of it can be used."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.result import Result
from neuros_mechint.report import Report
from tests.browser import BROWSER, Browser

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser installed (apt-get install chromium)")
WORDS = ["The", "cat", "did", "not", "cross", "the", "street", "because", "it", "was", "tired", "."]
LAST_TABLE = "[...document.querySelectorAll('figure.table table')].at(-1)"
ATTACK = '<script>document.title = "attacked"</script><img src=x onerror="document.title = \'attacked\'">'
LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 6
BACKWARDS = "كيف تعمل الشبكة؟"


def numbers(seed: int = 0) -> list[Result]:
    rng = np.random.default_rng(seed)
    attributes = {"units": "fraction of the clean logit difference", "long_name": "patching effect"}
    sites = [f"blocks.{layer}.resid_pre" for layer in range(12)]
    effect = xr.DataArray(rng.normal(size=(12, 24)), {"site": sites}, ("site", "position"), "effect", attributes)
    heads = np.tril(rng.random((2, 4, len(WORDS), len(WORDS))) ** 6)
    tokens = {"query": WORDS, "key": WORDS}
    pattern = xr.DataArray(heads / heads.sum(-1, keepdims=True), tokens, ("layer", "head", "query", "key"), "pattern")
    return [
        Result(effect.to_dataset(), "Heat map", warnings=("a warning",), citations=("mante2013",)),
        Result(effect[0].to_dataset(), "Line"),
        Result(effect[:, 0].drop_vars("position", errors="ignore").to_dataset(), "Bars"),
        Result(xr.Dataset({"single": 0.1, "joint": 0.97}), "Numbers"),
        Result(pattern.to_dataset(), "Attention"),
    ]


def report() -> Report:
    page = Report("A report with a rather long title that must wrap on phones", "Subtitle")
    page.add_text("Some words.\n\n- a list", title="Words")
    for result in numbers():
        page.add(result)
    cloud = Figure()
    cloud.subplots().plot(*np.random.default_rng(0).normal(size=(2, 20_000)), ".")
    page.add_figure(cloud, "Cloud", "Pixels")
    wide = pd.DataFrame(np.eye(3, 20), columns=[f"column {number}" for number in range(20)])
    page.add_table(wide, "Wide table", "Scrolls by itself")
    values = [10.0, -2.5, np.nan, 0.12344, 0.12341, np.inf]
    names = ["layer 10", "layer 2", "b", "a", None, "layer 1"]
    return page.add_table(pd.DataFrame({"name": names, "value": values}), "Sorted", "Sorts")


def hostile() -> Report:
    page = Report(ATTACK + LONG, BACKWARDS)
    for text in (ATTACK, LONG, BACKWARDS, "🧠 *x* `y` |"):
        labels = {"a": [text, f"{text} 2", "c"]}
        data = xr.Dataset({"x": (("a", "b"), np.eye(3, 4), {"units": text, "long_name": text})}, labels)
        page.add(Result(data, text, {text: text}, warnings=(text,)), caption=text)
        page.add_text(text, text).add_table(pd.DataFrame({text: [text, "b"], "n": [1.0, 2]}), text, text)
    return page


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def browser(folder) -> Generator[Browser]:
    browser = Browser(folder)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(folder) -> Path:
    return report().save(folder / "static.html")


def cells(browser: Browser, column: int) -> list[str]:
    """The texts of a column of the last table outside of details."""
    return browser.value(f"[...{LAST_TABLE}.tBodies[0].rows].map(row => row.cells[{column - 1}].textContent)")


def sorted_as(browser: Browser) -> list[str | None]:
    return browser.value(f"[...{LAST_TABLE}.querySelectorAll('th')].map(head => head.getAttribute('aria-sort'))")


def overflow(browser: Browser) -> int:
    """By how many pixels the page is wider than its window."""
    return browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_the_check_itself_sees_errors_and_blocked_loads(browser, folder):
    broken = folder / "broken.html"
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'\">"
    broken.write_text(f"{policy}<img src='https://example.com/x.png'><script>missing()</script>")
    browser.show(broken)
    console = "\n".join(browser.console())
    assert "missing is not defined" in console
    assert "Content Security Policy" in console


@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_fails_nothing_is_cut_off_nothing_is_empty(width, browser, page):
    browser.show(page, width)
    assert browser.console() == []
    assert overflow(browser) == 0
    images = browser.value("[...document.images].map(image => [image.complete, image.naturalWidth, image.width])")
    assert images
    assert all(complete and natural > 0 and shown > 100 for complete, natural, shown in images)
    pictures = browser.value("""[...document.querySelectorAll("figure svg[role=img]")].map(svg => {
        const box = element => {
            const {left, top, right, bottom} = element.getBoundingClientRect();
            return [left, top, right, bottom];
        };
        return [box(svg), [...svg.querySelectorAll("text")].map(box)];
    })""")
    assert len(pictures) == 5
    for (left, top, right, bottom), texts in pictures:
        assert right - left > 300
        assert bottom - top > 80
        assert len(texts) > 3
        for text in texts:
            assert left - 1 <= text[0] < text[2] <= right + 1
            assert top - 1 <= text[1] < text[3] <= bottom + 1


def test_what_is_wide_scrolls_inside_and_is_reached_by_key(browser, page):
    browser.show(page, 360)
    wide = (
        "[...document.querySelectorAll('figure.table .table')].find(table => table.textContent.includes('column 19'))"
    )
    assert browser.value(f"{wide}.scrollWidth > {wide}.clientWidth && {wide}.tabIndex === 0")
    assert browser.value("document.querySelector('.canvas').tabIndex") == 0
    browser.show(page, 1280)
    assert browser.value("document.querySelector('.canvas').tabIndex") == -1


def test_what_is_cut_fades_on_that_side_and_says_that_it_scrolls(browser, page):
    browser.show(page, 390)
    assert overflow(browser) == 0
    said = (
        "[...document.querySelectorAll('.sideways')].filter(one => one.checkVisibility()).map(one => one.textContent)"
    )
    assert set(browser.value(said)) == {"Scroll sideways to see the rest ⟷"}
    fades = "['more-before', 'more-after'].map(name => document.querySelector('.canvas').classList.contains(name))"
    assert browser.value(fades) == [False, True]
    browser.value(
        "new Promise(done => { const place = document.querySelector('.canvas'); "
        "place.addEventListener('scroll', () => setTimeout(done, 50), {once: true}); place.scrollLeft = 1e4; })"
    )
    assert browser.value(fades) == [True, False]
    places = "[...document.querySelectorAll('div.table, .canvas, .run')]"
    wide = f"{places}.filter(one => one.scrollWidth > one.clientWidth + 1)"
    browser.show(page, 1280)
    assert browser.value(f"{said}.length") == browser.value(f"{wide}.length")


def test_tables_sort_by_click_and_by_key(browser, page):
    browser.show(page)
    before = cells(browser, 2)
    assert before == ["10", "−2.5", "–", "0.1234", "0.1234", "inf"]
    place = browser.value("""(() => {
        const button = [...document.querySelectorAll("figure.table table")].at(-1).querySelectorAll("th button")[1];
        button.scrollIntoView({block: "center", behavior: "instant"});
        const {left, top, width, height} = button.getBoundingClientRect();
        return [left + width / 2, top + height / 2];
    })()""")
    browser.click(*place)
    assert sorted_as(browser) == [None, "ascending"]
    assert cells(browser, 2) == ["−2.5", "0.1234", "0.1234", "10", "inf", "–"]
    assert cells(browser, 1) == ["layer 2", "–", "a", "layer 10", "layer 1", "b"]  # by all digits, not those shown
    browser.press("Enter")
    assert sorted_as(browser) == [None, "descending"]
    assert cells(browser, 2) == ["inf", "10", "0.1234", "0.1234", "−2.5", "–"]
    browser.press(" ")
    assert sorted_as(browser) == [None, None]
    assert cells(browser, 2) == before
    browser.value("document.activeElement.closest('tr').querySelector('button').focus()")
    browser.press("Enter")
    assert sorted_as(browser) == ["ascending", None]
    assert cells(browser, 1) == ["a", "b", "layer 1", "layer 2", "layer 10", "–"]
    browser.press("Tab")
    assert browser.value("document.activeElement.textContent") == "value"


def test_values_are_read_off_heat_maps_with_mouse_and_keys(browser, page):
    effect = numbers()[0].main
    browser.show(page)
    x, y = browser.value("""(() => {
        const surface = document.querySelector('.surface');
        surface.scrollIntoView({block: "center", behavior: "instant"});
        const {left, top, width, height} = surface.getBoundingClientRect();
        return [left + width * 5.5 / 24, top + height * 3.5 / 12];
    })()""")
    browser.click(x, y, press=False)

    def readout() -> str:
        return browser.value("document.querySelector('output').textContent")

    def check(row: int, column: int) -> None:
        where, _, value = readout().rpartition(": ")
        assert where == f"site blocks.{row}.resid_pre, position {column}"
        assert float(value.replace("−", "-")) == pytest.approx(effect.values[row, column], rel=1e-3)

    check(3, 5)
    browser.value("document.querySelector('.surface').focus()")
    browser.press("ArrowDown")
    browser.press("ArrowLeft")
    check(4, 4)
    for _ in range(6):
        browser.press("ArrowLeft")
    check(4, 0)


def test_cells_lie_where_the_figure_shows_them(browser, page):
    browser.show(page)
    surface, image = browser.value("""[".surface", "figure svg image"].map(name => {
        const {left, top, right, bottom} = document.querySelector(name).getBoundingClientRect();
        return [left, top, right, bottom];
    })""")
    assert surface == pytest.approx(image, abs=1.5)


def test_heads_are_chosen_and_drawn(browser, page):
    pattern = numbers()[-1].main.values
    browser.show(page)
    browser.value("window.picks = document.querySelectorAll('.picks select'); picks[0].focus()")
    assert browser.value("[...picks].map(pick => pick.options.length)") == [2, 4]
    assert (
        browser.value("[...document.querySelectorAll('.note')].filter(note => note.textContent.includes('Drawn'))")
        == []
    )
    browser.press("ArrowDown")
    browser.value("picks[1].value = 2; picks[1].dispatchEvent(new Event('change'))")
    assert browser.value("picks[0].value") == "1"
    browser.value("window.surface = document.querySelectorAll('.surface')[1]; surface.focus()")
    for _ in range(5):
        browser.press("ArrowDown")
    said = browser.value("[...document.querySelectorAll('output')].at(-1).textContent")
    assert said.startswith("query the, key The: ")
    assert float(said.rpartition(" ")[2]) == pytest.approx(pattern[1, 2, 5, 0], rel=1e-3)
    drawn = browser.value("[...surface.querySelector('canvas').getContext('2d').getImageData(0, 0, 12, 12).data]")
    blue = np.array(drawn).reshape(12, 12, 4)[..., 0].ravel()
    order = np.argsort(pattern[1, 2].ravel())
    assert (np.diff(blue[order]) <= 0).all()  # the more attention, the darker


def test_dark_mode_darkens_the_page_and_lights_up_the_figures(browser, page):
    def brightness(dark: bool) -> list[float]:
        browser.show(page, dark=dark)
        colours = browser.value("""[getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.querySelector("figure svg text")).fill]""")
        return [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in colours]

    background, ink = brightness(dark=False)
    assert background > 230 > 90 > ink
    background, ink = brightness(dark=True)
    assert background < 60 < 180 < ink


def test_print_shows_provenance_on_white_without_controls(browser, page):
    browser.show(page, 800, dark=True, media="print")
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    seen = "element => element.checkVisibility()"
    assert browser.value(f"[...document.querySelectorAll('.origin')].every({seen})")
    assert not browser.value(f"[...document.querySelectorAll('details.data, .readout, .skip')].some({seen})")
    assert browser.value("getComputedStyle(document.querySelector('.table')).maxHeight") == "none"
    assert len(browser.call("Page.printToPDF")["data"]) > 10_000


def test_motion_is_left_out_where_it_is_not_wanted(browser, page):
    browser.show(page)
    for wanted in ("no-preference", "reduce"):
        feature = {"name": "prefers-reduced-motion", "value": wanted}
        browser.call("Emulation.setEmulatedMedia", features=[feature])
        behaviour = browser.value("getComputedStyle(document.documentElement).scrollBehavior")
        assert behaviour == ("smooth" if wanted == "no-preference" else "auto")


def test_the_first_key_leads_to_the_content(browser, page):
    browser.show(page)
    browser.press("Tab")
    assert browser.value("document.activeElement.textContent") == "Skip to the content"
    assert browser.value("document.activeElement.getBoundingClientRect().top") >= 0
    browser.press("Enter")
    assert browser.value("document.activeElement.id") == "content"


@pytest.mark.parametrize("width", [1280, 360])
def test_two_runs_stand_side_by_side_where_there_is_room(width, browser, folder):
    path, runs = folder / "both.html", {"seed 0": numbers(0)[:1], f"seed 1 {LONG}": numbers(1)[:1]}
    browser.show(path if path.exists() else Report.compare(runs).save(path), width)
    assert browser.console() == []
    assert overflow(browser) == 0
    tops = browser.value(
        "[...document.querySelectorAll('.runs .run')].slice(0, 2).map(run => run.getBoundingClientRect().top)"
    )
    assert (tops[0] == tops[1]) == (width == 1280)


@pytest.mark.parametrize("width", [1280, 360])
def test_hostile_words_run_nothing_and_break_no_line(width, browser, folder):
    path = folder / "hostile.html"
    browser.show(path if path.exists() else hostile().save(path), width)
    assert browser.console() == []
    assert browser.value("document.title").startswith("<script>")
    assert browser.value("document.querySelectorAll('script, img').length") == 1
    assert overflow(browser) == 0
    assert browser.value("getComputedStyle(document.querySelector('.subtitle')).direction") == "rtl"


def test_plotly_figures_are_drawn_without_a_word_on_the_console(browser, folder):
    page = Report("Interactive", interactive=True)
    for result in (numbers()[0], numbers()[1]):
        page.add(result)
    browser.show(page.save(folder / "interactive.html"))
    assert browser.console() == []
    sizes = browser.value(
        """[...document.querySelectorAll(".main-svg")].map(svg => [svg.clientWidth, svg.clientHeight])"""
    )
    assert len(sizes) >= 4
    assert all(width > 400 and height > 200 for width, height in sizes)
