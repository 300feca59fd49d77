from __future__ import annotations

import base64
import re
import subprocess
import sys
import webbrowser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, MissingDependencyError, StorageError
from neuros_mechint.core.figures.colours import INK
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.report import Report
from neuros_mechint.report import report as report_module
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
def page() -> Page:
    return Page(full_report().to_html())


def test_page_loads_nothing(page):
    assert page.loads() == []
    assert not page.all("link")
    assert not page.all("script")
    assert not re.search(r"url\((?!#)|@import", full_report().to_html())


def test_page_forbids_itself_to_load_or_run_anything(page):
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'none'" in policy


def test_every_element_is_closed_and_ids_are_unique(page):
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_contents_and_citations_lead_somewhere(page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    targets = [a["href"] for a in page.all("a") if a["href"].startswith("#")]
    assert len(targets) == 6 + 3
    assert {target[1:] for target in targets} <= ids


def test_references_inside_vector_graphics_lead_somewhere(page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    used = [use["xlink:href"][1:] for use in page.all("use")]
    clipped = re.findall(r"url\(#([^)]+)\)", full_report().to_html())
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


def test_titles_drawn_on_the_page_are_not_drawn_in_the_figure():
    html = full_report().to_html()
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert ">Which positions matter<" not in svg
    assert "position" in svg


def test_figures_of_results_follow_the_colours_of_the_page():
    html = full_report().to_html()
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
    assert not attacked.all("script")
    assert not [name for _, attributes in attacked.elements for name in attributes if name.startswith("on")]
    assert attacked.loads() == []
    assert attacked.open == []
    assert attacked.text.count("alert(1)") >= 12
    assert "<script" not in report._repr_html_()


def test_saved_page_is_the_page_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "folder" / "report.html"
    assert Report("Old").save(path) == path
    full_report().save(path)
    assert "How it copies" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(StorageError, match="cannot write"):
        Report("No").save(path / "below")


def test_small_reports_are_small_files(tmp_path):
    assert full_report().save(tmp_path / "report.html").stat().st_size < 150_000


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
    assert len(html) < 500_000
    assert Page(html).all("svg")
    assert "image-rendering" in html


def test_results_that_cannot_be_drawn_keep_their_findings():
    data = xr.Dataset({"tensor": (("a", "b", "c"), np.zeros((2, 2, 2)))})
    report = Report("Cube").add(Result(data, "Three dimensions"))
    assert "No figure: a figure of 3 dimensions cannot be drawn" in Page(report.to_html()).text
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
    assert report.sections[0].findings == [("best layer", "3"), ("", "All heads matter.")]
    assert text.count("few") == 1


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
    assert page.count("<figcaption>") == 2
    assert "How large the error is." in page


def test_sections_tell_what_was_added():
    report = full_report()
    assert [section.kind for section in report.sections] == ["text", "figure", "figure", "table", "figure"]
    assert [section.number for section in report.sections] == [None, 1, 2, 1, 3]
    assert report.sections[1].result == report.sections[1].result
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
    full_report()
    assert plt.get_fignums() == before


def test_interactive_report_holds_the_script_once_and_loads_nothing():
    html = full_report(interactive=True).to_html()
    assert html.count("Plotly.newPlot(") >= 2
    scripts = re.findall(r"<script[^>]*>", html)
    assert not any("src" in script for script in scripts)
    assert 1_000_000 < len(html) < 8_000_000
    assert len(html) < 1.1 * len(Report("One", interactive=True).add(heat_map_result()).to_html())
    assert "cdn.plot.ly/plotly" not in html
    assert "sendChartToCloud" not in html.rpartition("</script>\n")[2]


def test_interactive_figures_cannot_break_out_of_their_script():
    report = Report("Attack", interactive=True).add(heat_map_result(ATTACK))
    data = xr.Dataset({"x": (("a", "b"), np.eye(2), {"units": ATTACK})}, {"a": [ATTACK, "</script>"]})
    report.add(Result(data, "Labels"))
    body = report.to_html().partition("<body>")[2]
    assert "<script>alert" not in body
    assert body.count("<script") == body.count("</script>") == 2


def test_a_plotly_figure_makes_a_plain_report_interactive():
    figure = heat_map_result().plot_interactive()
    assert "Plotly.newPlot(" in Report("Mixed").add_figure(figure, "Interactive").to_html()


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


def test_notebook_view_is_one_escaped_frame():
    html = full_report()._repr_html_()
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
    assert '<th class="text">name</th><th>value</th>' in html
    assert '<td class="text">a</td><td>−0.5</td>' in html
    assert html.count("–") == 2
    long = table_markup(pd.DataFrame({"x": range(1234)}))
    assert long.count("<tr>") == 201
    assert "The first 200 of 1,234 rows." in long
    assert '<th class="text">site</th>' in table_markup(
        table.rename_axis("site", axis=0).set_axis(["p", "q"]).rename_axis("site")
    )


def test_importing_the_report_loads_no_torch():
    code = "import sys, neuros_mechint.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_fault_in_a_drawing_is_not_swallowed():
    class Faulty(Result):
        def _draw(self, ax):
            raise InputError("a fault of the class that draws")

    with pytest.raises(InputError, match="a fault of the class"):
        Report("Report").add(Faulty(xr.Dataset({"x": ("a", [1.0, 2.0])}), "Result"))


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
