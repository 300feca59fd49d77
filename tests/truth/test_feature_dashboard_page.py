"""Pages of features: tokens, tables and figures as a browser shows them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.result import load_result
from neuros_mechint.features.dashboard import page as page_module
from neuros_mechint.report import Report
from tests.browser import BROWSER, Browser
from tests.truth.planted_features import VOCABULARY, Planted


class Words:
    """A tokenizer: ``w3`` with a space before, and a token that would run in a page that does not escape it."""

    def decode(self, ids):
        (number,) = ids
        if number >= VOCABULARY:
            raise IndexError(number)
        return "<script>alert(1)</script>" if number == 5 else "\n" if number == 6 else f" w{number}"


# -- pages ---------------------------------------------------------------------------------------------------------


def with_words():
    """Return a dashboard of the induction transformer whose tokens are words."""
    model = nm.adapt(nm.load_model("induction"))
    model.tokenizer = Words()
    tokens = torch.randint(1, VOCABULARY, (30, 12), generator=torch.Generator().manual_seed(1))
    sae = Planted(0, 64, 40)
    return nm.feature_dashboard(model, sae, tokens, site="blocks.1.resid_post", features=[3, 1, 2], n_examples=5)


@pytest.fixture(scope="module")
def worded():
    return with_words()


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "path", "use", "rect", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_tokens_are_escaped_coloured_and_need_no_script(worded):
    assert "<script>alert(1)</script>" in worded.data["token"].values
    # The only script is that of every report.
    for html, scripts in ((worded._repr_html_(), []), (Report("Features").add(worded).to_html(), [{}])):
        seen = Elements(html)
        assert [attributes for tag, attributes in seen.tags if tag == "script"] == scripts
        assert "<script>alert(1)</script>" in seen.text
        assert [tag for tag, _ in seen.tags].count("details") >= 3
        assert not re.search(r'(src|href)="http', html.split('id="references"')[0])
        assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
        colours = [attributes.get("style") or "" for tag, attributes in seen.tags if tag == "span"]
        full = [style for style in colours if f"{page_module._STRONGEST:.2f})" in style]
        assert len(full) >= 3  # the largest of each feature
        assert sum("underline" in style for style in colours) == int(worded.data["activation"].notnull().sum())


def test_the_page_has_one_block_per_feature_with_its_tables(worded):
    seen = Elements(Report("Features").add(worded, caption="All of them").to_html())
    blocks = [attributes for tag, attributes in seen.tags if attributes.get("class") == "block"]
    assert len(blocks) == 3
    assert ["open" in block for block in blocks] == [True, False, False]
    assert len([tag for tag, attributes in seen.tags if tag == "svg" and attributes.get("role") == "img"]) == 3
    for words in ("raises", "lowers", "points like", "fires like", "largest by chance", "All of them"):
        assert words in seen.text


def test_words_stay_readable_on_the_strongest_colour_in_light_and_dark():
    style = (Path(page_module.__file__).parents[2] / "report" / "templates" / "style.css").read_text()
    mark = np.array([int(part) for part in page_module._MARK.split(",")])

    def luminance(colour):
        parts = np.asarray(colour) / 255
        return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    def colours(name):
        found = re.findall(rf"--{name}: #(\w{{6}});", style)[:2]
        return [np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) for text in found]

    for paper, ink in zip(colours("page"), colours("ink"), strict=True):
        behind = page_module._STRONGEST * mark + (1 - page_module._STRONGEST) * paper
        light, dark = sorted([luminance(behind), luminance(ink)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG AA for text


@pytest.mark.skipif(BROWSER is None, reason="no browser installed (apt-get install chromium)")
def test_a_browser_shows_it_without_a_word_on_the_console(worded, tmp_path):
    path = Report("Features").add(worded).save(tmp_path / "features.html")
    browser = Browser(tmp_path)
    for width in (1280, 360):
        browser.show(path, width)
        assert browser.console() == []
        assert "feature 3: fires in" in browser.value("document.body.textContent")
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        size = browser.value("""(() => {
            const box = document.querySelector("figure svg[role=img]").getBoundingClientRect();
            return [box.width, box.height];
        })()""")
        assert size[0] > 300
        assert size[1] > 80
    browser.close()


def test_figures_summaries_and_tables_tell_what_was_found(worded, tmp_path):
    axes = worded.plot(Figure().subplots(), feature=2)
    assert axes.get_title(loc="left") == "feature 2"
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == worded.data["count"].sel(feature=2).values.tolist()
    with pytest.raises(InputError, match="not on this dashboard"):
        worded.plot(Figure().subplots(), feature=7)
    assert f"raises {str(worded.data['raised'].values[0, 0])!r}" in worded.summary()
    table = worded.to_dataframe()
    assert len(table) == int(worded.data["activation"].notnull().sum())
    middle = worded.data["token"].values[0, 0][worded.data["offset"].values == 0][0]
    assert f"«{middle}»" in table["text"][0]
    assert load_result(worded.save(tmp_path / "dashboard.nc")) == worded
