from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import time
import webbrowser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, MissingDependencyError, OptionError, StorageError
from neuros_mechint.core.figures.colours import INK
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.report import Report
from neuros_mechint.report import report as report_module
from neuros_mechint.report.results import findings_of
from neuros_mechint.report.tables import table_markup
from neuros_mechint.report.text import render_text

ATTACK = '<script>alert("x")</script><img src=http://evil.example/x onerror=alert(1)>'
LOADING = {"src", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}


class Page(HTMLParser):
    """Elements, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = 0
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden += tag in ("script", "style")
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self._hidden:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def loads(self) -> list[str]:
        """Everything the page would fetch, apart from what it holds itself."""
        wanted = [
            value
            for tag, attributes in self.elements
            for name, value in attributes.items()
            if value and (name in LOADING or (name == "href" and tag in ("link", "image", "use", "base")))
        ]
        return [value for value in wanted if not value.startswith(("data:", "#"))]


def heat_map_result(title="Which positions matter", **changes) -> Result:
    effect = np.random.default_rng(0).normal(size=(3, 5))
    data = xr.Dataset({"effect": (("layer", "position"), effect, {"units": "nats"})})
    arguments = {
        "attributes": {"method": "exact"},
        "provenance": Provenance.record(seed=17, model="cafe1234", arguments={"clean": np.zeros((2, 3))}),
        "citations": ("meng2022rome", "heimersheim2024"),
        "warnings": ("few pairs",),
    }
    return Result(data, title, **(arguments | changes))


def full_report(**options) -> Report:
    report = Report("How it copies", "With *care*", **options)
    report.add_text("First paragraph.\n\n- an item with `code`", title="Question")
    report.add(heat_map_result(), caption="Effects by **position**.")
    report.add(Result(xr.Dataset({"accuracy": ("lag", [0.5, 1.0])}), "Accuracy", citations=("meng2022rome",)))
    report.add_table(pd.DataFrame({"head": ["0.0"], "effect": [0.123456]}), "All heads", "Every head once.")
    figure = Figure()
    figure.subplots().plot([0, 1])
    return report.add_figure(figure, "A line", "It rises.")


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


@pytest.fixture(scope="module")
def html(report) -> str:
    return report.to_html()


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_page_loads_nothing(page, html):
    assert page.loads() == []
    assert not page.all("link")
    assert page.all("script") == [{}]
    assert not re.search(r"url\((?!#)|@import", html)


def test_page_forbids_itself_to_load_anything_or_run_any_script_but_its_own(page, html):
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    own = hashlib.sha256(re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1].encode()).digest()  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert policy.endswith(f"script-src 'sha256-{base64.b64encode(own).decode()}'")


def test_every_element_is_closed_and_ids_are_unique(page):
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_contents_and_citations_lead_somewhere(page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    targets = [a["href"] for a in page.all("a") if a["href"].startswith("#")]
    assert len(targets) == 7 + 3 + 1 + 1  # contents, sources of methods, a warning, to the content
    assert {target[1:] for target in targets} <= ids


def test_references_inside_vector_graphics_lead_somewhere(page, html):
    ids = {attributes.get("id") for _, attributes in page.elements}
    used = [use["xlink:href"][1:] for use in page.all("use")]
    clipped = re.findall(r"url\(#([^)]+)\)", html)
    assert used
    assert clipped
    assert {*used, *clipped} <= ids


def test_figures_are_numbered_captioned_and_described(page):
    assert [f["class"] for f in page.all("figure")] == ["figure", "figure", "table", "figure"]
    for words in ("Figure 1.", "Figure 2.", "Figure 3.", "Table 1.", "Effects by position.", "It rises."):
        assert words in page.text
    pictures = page.all("svg")
    assert len(pictures) == 3
    assert all(picture["role"] == "img" for picture in pictures)
    assert "from" in pictures[0]["aria-label"]
    assert "Which positions matter" in pictures[0]["aria-label"]
    assert pictures[2]["aria-label"] == "It rises."


def test_every_result_shows_warnings_findings_sources_and_provenance(page):
    for words in (
        "few pairs",
        "exact",
        "nats",
        "17",
        "cafe1234",
        "float64 array, 2 × 3",
        "numpy " + np.__version__,
    ):
        assert words in page.text
    assert page.text.count("Locating and Editing Factual Associations in GPT. ") == 1
    assert "@inproceedings{meng2022rome" in page.text
    assert {"href": "https://arxiv.org/abs/2202.05262"} in page.all("a")


def test_titles_drawn_on_the_page_are_not_drawn_in_the_figure(html):
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert ">Which positions matter<" not in svg
    assert "position" in svg


def test_figures_of_results_follow_the_colours_of_the_page(html):
    own, foreign = (
        html[html.index("<svg") : html.index("</svg>")],
        html[html.rindex("<svg") : html.rindex("</svg>")],
    )
    assert f"var(--figure-ink, {INK})" in own
    assert "var(--figure-ink" not in foreign
    assert "prefers-color-scheme: dark" in html


def test_whatever_is_written_stays_text():
    report = Report(ATTACK, ATTACK).add_text(ATTACK, title=ATTACK)
    report.add(heat_map_result(ATTACK, attributes={ATTACK: ATTACK}, warnings=(ATTACK,)), caption=ATTACK)
    data = xr.Dataset({"x": ("unit", [1.0, 2.0], {"units": ATTACK, "long_name": ATTACK})}, {"unit": [ATTACK, "b"]})
    report.add(Result(data, "Labels", provenance=Provenance.record(arguments={ATTACK: ATTACK})))
    report.add_table(pd.DataFrame({ATTACK: [ATTACK]}), ATTACK, ATTACK)
    figure = Figure()
    figure.subplots().set_title(ATTACK)
    report.add_figure(figure, ATTACK, ATTACK, description=ATTACK)
    attacked = Page(report.to_html())
    assert attacked.all("script") == [{}]
    assert not attacked.all("img")
    assert not [name for _, attributes in attacked.elements for name in attributes if name.startswith("on")]
    assert attacked.loads() == []
    assert attacked.open == []
    assert attacked.text.count("alert(1)") >= 12
    assert "<script" not in report._repr_html_()
    tags = re.findall(r"<\w+", re.sub(r"<https?://[^>]*>", "", report.to_markdown()))
    assert tags == []


def test_saved_page_is_the_page_and_replaces_the_old_one(report, tmp_path):
    path = tmp_path / "folder" / "report.html"
    assert Report("Old").save(path) == path
    report.save(path)
    assert "How it copies" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(StorageError, match="cannot write"):
        Report("No").save(path / "below.html")


def test_small_reports_are_small_files(html):
    assert len(html.encode()) < 150_000


def test_dense_figures_become_pixels_and_keep_the_page_small():
    figure = Figure()
    figure.subplots().plot(*np.random.default_rng(0).normal(size=(2, 10_000)), ".")
    html = Report("Dense").add_figure(figure, "Cloud", "Many points").to_html()
    assert len(html) < 500_000
    picture = Page(html).all("img")[0]
    assert picture["alt"] == "Many points"
    assert base64.b64decode(picture["src"].partition(",")[2]).startswith(b"\x89PNG")


def test_large_heat_maps_stay_crisp_and_small():
    data = xr.Dataset({"attention": (("query", "key"), np.random.default_rng(0).random((256, 256)))})
    html = Report("Attention").add(Result(data, "Pattern")).to_html()
    assert len(html) < 800_000  # the numbers themselves are 350,000 characters
    assert Page(html).all("svg")
    assert "image-rendering" in html


def test_results_that_cannot_be_drawn_keep_their_findings():
    data = xr.Dataset({"word": ("a", ["cat", "dog"])})
    report = Report("Words").add(Result(data, "Only text"))
    assert "No figure: word cannot be drawn" in Page(report.to_html()).text
    assert report.sections[0].number is None


def test_results_with_a_drawing_and_summary_of_their_own():
    class Own(Result):
        def _draw(self, ax):
            ax.plot([0, 1], label="mine")
            ax.set_title("kept title")

        def _summary_lines(self):
            return ["best layer: 3", "All heads matter."]

    report = Report("Own", interactive=True).add(Own(xr.Dataset({"x": 1.0}), "Own result", warnings=("few",)))
    text = Page(report.to_html()).text
    assert "kept title" in text
    assert report.sections[0].findings == {"": [("best layer", "3"), ("", "All heads matter.")]}
    assert text.count("few") == 2  # at the top and in place


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("noise ceiling: 0.65 (lower) to 0.74 (upper)", "noise ceiling"),
        ("  blocks.0.z[head=3]: 0.5, p = 0.01", "blocks.0.z[head=3]"),
        ("gradient_norm: 1", "gradient norm"),
        ("index sum 1: as it must be", ""),
        ("CPR 0.845, CMD 0.154; over distinct sizes only: CPR 0.847", ""),
        ("none at all, as it seems: no p is small", ""),
        ("largest effects:", ""),
        ("It does induction: heads 0.0 and 1.3.", ""),
    ],
)
def test_names_and_sentences_are_told_apart(line, name):
    class Told(Result):
        def _summary_lines(self):
            return [line]

    [(found, value)] = findings_of(Told(xr.Dataset({"x": 1.0}), "Told"))
    assert (found, value) == (name, line.partition(": ")[2] if name else line)


class Composite(Result):
    """A result that is made of others."""

    def report_sections(self):
        for name in ("score", "error"):
            yield Result(self.data[[name]], f"The {name}"), f"Part: {name}", f"How large the {name} is."


def test_results_made_of_others_are_told_and_shown_part_by_part():
    data = xr.Dataset({"score": ("layer", [0.5, 0.6]), "error": ("layer", [0.1, 0.2])})
    report = Report("Parts").add(Composite(data, "All of it", warnings=("only 2 layers",)), caption="Two parts.")
    assert [section.title for section in report.sections] == ["All of it", "Part: score", "Part: error"]
    assert [section.number for section in report.sections] == [None, 1, 2]
    page = report.to_html()
    assert "Two parts." in page
    assert "only 2 layers" in page
    assert page.count("<figcaption") == 2
    assert "How large the error is." in page


def test_sections_tell_what_was_added(report):
    assert [section.kind for section in report.sections] == ["text", "figure", "figure", "table", "figure"]
    assert [section.number for section in report.sections] == [None, 1, 2, 1, 3]
    assert [section.result and section.result.title for section in report.sections[:3]] == [
        None,
        "Which positions matter",
        "Accuracy",
    ]
    assert repr(report) == "<Report 'How it copies': 5 sections>"


def test_the_callers_figure_is_left_alone():
    figure = Figure(facecolor="red")
    figure.subplots().set_title("kept")
    size = figure.get_size_inches().tolist()
    Report("Figure").add_figure(figure, "kept")
    assert figure.get_facecolor() == (1.0, 0.0, 0.0, 1.0)
    assert figure.axes[0].get_title() == "kept"
    assert figure.get_size_inches().tolist() == size


def test_pyplot_sees_no_figures_of_reports():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    Report("One figure").add(heat_map_result())
    assert plt.get_fignums() == before


def test_interactive_report_holds_the_script_once_and_loads_nothing():
    html = full_report(interactive=True).to_html()
    assert html.count(' data-figure="') == 2
    assert re.findall(r"<script[^>]*>", html.partition("<body>")[2]) == ["<script>", "<script>"]
    assert 1_000_000 < len(html) < 8_000_000
    assert "cdn.plot.ly/plotly" not in html
    assert "'unsafe-inline'; img-src" in html
    assert "script-src 'sha256-" in html


def test_interactive_figures_cannot_break_out_of_their_script():
    report = Report("Attack", interactive=True).add(heat_map_result(ATTACK))
    data = xr.Dataset({"x": (("a", "b"), np.eye(2), {"units": ATTACK})}, {"a": [ATTACK, "</script>"]})
    report.add(Result(data, "Labels"))
    attacked = Page(report.to_html())
    assert attacked.all("script") == [{}, {}]
    assert len([div for div in attacked.all("div") if "data-figure" in div]) == 2
    assert ATTACK in json.loads(next(div["data-figure"] for div in attacked.all("div") if "data-figure" in div) or "")[
        "layout"
    ]["title"].get("text", ATTACK)


def test_a_plotly_figure_makes_a_plain_report_interactive():
    figure = heat_map_result().plot_interactive()
    report = Report("Mixed").add_figure(figure, "Interactive")
    assert ' data-figure="' in report.to_html()
    assert "An interactive figure, which only the HTML page shows." in report.to_markdown()


def test_interactive_reports_name_the_extra_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[viz\]"):
        Report("No plotly", interactive=True)


def test_wrong_objects_are_refused_with_the_right_method():
    report = Report("Wrong")
    with pytest.raises(InputError, match="add_figure"):
        report.add(Figure())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"ax\.figure"):
        report.add_figure(Figure().subplots())
    with pytest.raises(InputError, match="not a table"):
        report.add_table([[1]])  # type: ignore[arg-type]
    assert report.sections == ()
    for name in ("page.pdf", "page", "html"):
        with pytest.raises(OptionError, match=r"\.html, \.md or \.json"):
            report.save(name)


def test_browser_opens_only_where_there_is_one(monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    for name in ("CI", "NEUROS_MECHINT_NO_BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(report_module.sys, "platform", "linux")
    report = Report("Browser")
    assert report.open() is False
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("CI", "NEUROS_MECHINT_NO_BROWSER"):
        monkeypatch.setenv(name, "1")
        assert report.open() is False
        monkeypatch.delenv(name)
    assert opened == []
    assert report.open() is True
    assert opened[0].startswith("file://")
    assert opened[0].endswith("report.html")


def test_notebook_view_is_one_escaped_frame(report):
    html = report._repr_html_()
    assert html.startswith("<iframe")
    assert html.count("<") == 2


def test_text_becomes_paragraphs_lists_and_emphasis():
    assert render_text("one\ntwo\n\nthree") == "<p>one two</p>\n<p>three</p>"
    assert render_text("- a\n- *b*") == "<ul><li>a</li><li><em>b</em></li></ul>"
    assert render_text("**x** and `a*b*c` and 2*3*4") == ("<p><strong>x</strong> and <code>a*b*c</code> and 2*3*4</p>")
    assert render_text("`<i>`") == "<p><code>&lt;i&gt;</code></p>"
    assert render_text(" ") == ""


def test_tables_align_numbers_and_say_when_they_are_cut():
    table = pd.DataFrame({"name": ["a", None], "value": [-0.5, np.nan]})
    html = table_markup(table)
    assert '<th scope="col" class="text">name</th><th scope="col">value</th>' in html
    assert '<td class="text">a</td><td>−0.5</td>' in html
    assert html.count("–") == 2
    assert '<td data-value="0.123456">0.1235</td><td>7</td>' in table_markup(pd.DataFrame({"a": [0.123456], "b": [7]}))
    titled = table_markup(table, ATTACK)
    assert "<script" not in titled
    assert '<caption class="unseen">&lt;script' in titled
    long = table_markup(pd.DataFrame({"x": range(1234)}))
    assert long.count("<tr>") == 201
    assert "The first 200 of 1,234 rows." in long
    assert '<th scope="col" class="text">site</th>' in table_markup(
        table.rename_axis("site", axis=0).set_axis(["p", "q"]).rename_axis("site")
    )


def test_importing_the_report_loads_no_torch():
    code = "import sys, neuros_mechint.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class Faulty(Result):
    """A result of a class with mistakes."""

    def _draw(self, ax):
        raise KeyError(ATTACK)

    def _summary_lines(self):
        raise RuntimeError("no words")

    def to_dataframe(self):
        raise ValueError("no table")


def test_a_fault_in_a_drawing_is_a_warning_of_the_page_and_the_rest_stays():
    report = Report("Report").add(Faulty(xr.Dataset({"x": ("a", [1.0, 2.0])}), "Result")).add(heat_map_result())
    text = Page(report.to_html()).text
    assert text.count("the figure could not be made: KeyError") == 2  # at the top and in place
    assert "the findings could not be made: RuntimeError: no words" in text
    assert "the table could not be made: ValueError: no table" in text
    assert report.sections[0].number is None
    assert report.sections[1].number == 1
    assert "the figure could not be made" in report.to_markdown()
    assert json.loads(report.to_json())["sections"][0]["results"][0]["data"]["variables"]["x"]["values"] == [1.0, 2.0]


def test_a_page_that_grew_since_it_was_saved_is_opened_whole(tmp_path, monkeypatch):
    opened = []
    for name in ("CI", "NEUROS_MECHINT_NO_BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    report = Report("Report").add_text("first")
    report.save(tmp_path / "report.html")
    assert report.open()
    report.add_text("second words")
    assert report.open()
    pages = [Path(unquote(urlparse(address).path)).read_text(encoding="utf-8") for address in opened]
    assert ["second words" in page for page in pages] == [False, True]
    assert opened[0].endswith("report.html")


def test_an_empty_report_says_so():
    empty = Page(Report("Empty").to_html())
    assert "Nothing was added to this report." in empty.text
    assert not empty.all("nav")
    assert empty.open == []
    assert Report("Empty").to_markdown().startswith("# Empty\n")
    assert json.loads(Report("Empty").to_json())["sections"] == []


def test_warnings_stand_at_the_top_and_lead_to_their_places(page):
    top = page.text.index("few pairs")
    assert top < page.text.index("First paragraph.") < page.text.index("few pairs", top + 1)
    assert {"href": "#section-2"} in page.all("a")


def test_headings_are_in_order_and_landmarks_are_there(page):
    headings = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert page.all("nav")[0]["aria-label"] == "Contents"
    assert {"id": "warnings", "class": "warnings", "aria-labelledby": "warnings-title"} in page.all("section")
    assert all(head["scope"] == "col" for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 3


def test_colours_can_be_told_apart_by_weak_eyes():
    style = (Path(report_module.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for mode in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", mode.partition("}")[0]))
        pairs = [(ink, ground) for ink in ("ink", "muted", "accent", "figure-ink") for ground in ("page", "surface")]
        for ink, ground in [*pairs, ("warn-ink", "warn-surface"), ("figure-muted", "page")]:
            low, high = sorted(luminance(colours[name]) for name in (ink, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
        low, high = sorted(luminance(colours[name]) for name in ("control", "surface"))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_attention_offers_every_head_and_says_which_is_drawn():
    words = ["The", "cat", "<b>", "sat"]
    pattern = xr.DataArray(
        np.arange(2 * 3 * 16, dtype=float).reshape(2, 3, 4, 4) / 96,
        {"query": words, "key": words},
        ("layer", "head", "query", "key"),
        "pattern",
    )
    report = Report("Attention").add(Result(pattern.to_dataset(), "Pattern"))
    explorer = next(div["data-explorer"] for div in Page(report.to_html()).all("div") if "data-explorer" in div)
    about = json.loads(explorer or "")
    values = np.frombuffer(base64.b64decode(about["values"]), "<f4")
    np.testing.assert_array_equal(values, pattern.values.astype(np.float32).ravel())
    assert about["axes"] == [["query", words], ["key", words]]
    assert about["choices"] == [["layer", ["0", "1"]], ["head", ["0", "1", "2"]]]
    assert about["range"] == [0.0, 95 / 96]
    assert "Drawn: layer 0, head 0 of 2 × 3." in Page(report.to_html()).text


def test_values_of_heat_maps_are_those_of_the_cells_they_are_drawn_in():
    upside_down = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("unit", "time"), name="rate")

    class Own(Result):
        def _draw(self, ax):
            ax.imshow(self.main.values, origin="lower", aspect="auto")
            ax.set(ylabel="unit", xlabel="time")

    class Cut(Own):
        def _draw(self, ax):
            super()._draw(ax)
            ax.set_xlim(0.5, 2.5)

    class Foreign(Result):
        def _draw(self, ax):
            ax.imshow(np.zeros((5, 5)))

    def explored(cls):
        html = Report("Map").add(cls(upside_down.to_dataset(), "Map")).to_html()
        return [json.loads(d["data-explorer"] or "") for d in Page(html).all("div") if "data-explorer" in d]

    (about,) = explored(Own)
    assert np.frombuffer(base64.b64decode(about["values"]), "<f4").tolist() == [3, 4, 5, 0, 1, 2]
    assert about["axes"] == [["unit", ["1", "0"]], ["time", ["0", "1", "2"]]]
    assert all(0 < part < 100 for part in about["place"])
    assert explored(Cut) == explored(Foreign) == []


@pytest.mark.slow
def test_two_hundred_sections_take_a_reasonable_time():
    started = time.process_time()
    report = Report("Long")
    for number in range(200):
        report.add(Result(xr.Dataset({"x": (("a", "b"), np.eye(8) * number)}), f"Result {number}"))
    html = report.to_html()
    assert html.count("<h2") == 200
    assert time.process_time() - started < 120
    assert len(html) < 10_000_000
