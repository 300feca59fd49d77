"""The page in a real browser: nothing fails, nothing is cut off, nothing is empty."""

from __future__ import annotations

import functools
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.result import Result
from neuros_mechint.report import Report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
# The page forbids scripts, so the probe goes into a copy that allows them; it reports in an attribute.
PROBE = """<script>addEventListener("load", () => setTimeout(() => {
  const edges = rectangle => [rectangle.left, rectangle.top, rectangle.right, rectangle.bottom];
  const box = element => edges(element.getBoundingClientRect());
  const pictures = [...document.querySelectorAll("figure svg[role=img]")];
  document.body.dataset.probe = JSON.stringify({
    window: innerWidth, page: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("figure svg[role=img] text") || document.body).fill,
    images: [...document.images].map(image => [image.complete, image.naturalWidth, image.width]),
    pictures: pictures.map(svg => ({box: box(svg), texts: [...svg.querySelectorAll("text")].map(box)})),
  })
}, 500))</script></body>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser installed (apt-get install chromium)")


def show(page: Path, folder: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the page's elements after loading, and what it wrote to the console."""
    profile = folder / f"profile {len(list(folder.iterdir()))}"
    shown = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    return shown.stdout, [line for line in shown.stderr.splitlines() if "CONSOLE" in line]


def probe(page: Path, folder: Path, *flags: str) -> dict:
    text = page.read_text(encoding="utf-8")
    text = text.replace("script-src 'none'", "script-src 'unsafe-inline'")
    copy = folder / f"probed {page.name}"
    copy.write_text(PROBE.join(text.rsplit("</body>", 1)), encoding="utf-8")
    elements, _ = show(copy, folder, *flags)
    return json.loads(html.unescape(re.search(r'data-probe="([^"]*)"', elements)[1]))  # type: ignore[index]


def report(interactive: bool) -> Report:
    rng = np.random.default_rng(0)
    page = Report("A report with a rather long title that must wrap on phones", "Subtitle", interactive=interactive)
    page.add_text("Some words.\n\n- a list", title="Words")
    attributes = {"units": "fraction of the clean logit difference", "long_name": "patching effect"}
    sites = [f"blocks.{layer}.resid_pre" for layer in range(12)]
    effect = xr.DataArray(rng.normal(size=(12, 24)), {"site": sites}, ("site", "position"), "effect", attributes)
    page.add(Result(effect.to_dataset(), "Heat map", warnings=("a warning",), citations=("mante2013",)))
    page.add(Result(effect[:2].to_dataset(), "Low heat map"))
    page.add(Result(effect[0].to_dataset(), "Line"))
    page.add(Result(effect[:, 0].drop_vars("position", errors="ignore").to_dataset(), "Bars"))
    page.add(Result(xr.Dataset({"single": 0.1, "joint": 0.97}), "Numbers"))
    cloud = Figure()
    cloud.subplots().plot(*rng.normal(size=(2, 20_000)), ".")
    page.add_figure(cloud, "Cloud", "Pixels")
    wide = pd.DataFrame(rng.normal(size=(3, 20)), columns=[f"column {number}" for number in range(20)])
    return page.add_table(wide, "Wide table", "Scrolls by itself")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def static_page(folder) -> Path:
    return report(interactive=False).save(folder / "static.html")


@pytest.fixture(scope="module")
def probes(static_page, folder):
    return functools.cache(lambda flag: probe(static_page, folder, flag))


@pytest.fixture(scope="module")
def interactive_page(folder) -> Path:
    return report(interactive=True).save(folder / "interactive.html")


def test_the_check_itself_sees_errors_and_blocked_loads(folder):
    broken = folder / "broken.html"
    policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'\">"
    broken.write_text(f"{policy}<img src='https://example.com/x.png'><script>missing()</script>")
    console = "\n".join(show(broken, folder)[1])
    assert "missing is not defined" in console
    assert "Content Security Policy" in console


def test_the_console_stays_silent(static_page, folder):
    elements, console = show(static_page, folder)
    assert console == []
    assert "Wide table" in elements


def test_interactive_figures_are_drawn_without_a_word_on_the_console(interactive_page, folder):
    elements, console = show(interactive_page, folder, "--window-size=1280,2000")
    assert console == []
    sizes = re.findall(r'<svg class="main-svg"[^>]* width="(\d+)[^"]*" height="(\d+)', elements)
    assert len(sizes) >= 4
    assert all(int(width) > 400 and int(height) > 200 for width, height in sizes)


@pytest.mark.parametrize("width", [1280, 500])
def test_everything_has_a_size_and_no_label_is_cut(width, probes):
    seen = probes(f"--window-size={width},2000")
    assert seen["page"] <= seen["window"]
    assert seen["images"]
    assert all(complete and natural > 0 and shown > 100 for complete, natural, shown in seen["images"])
    assert len(seen["pictures"]) == 5
    for picture in seen["pictures"]:
        left, top, right, bottom = picture["box"]
        assert right - left > 300
        assert bottom - top > 80
        assert len(picture["texts"]) > 3
        for text in picture["texts"]:
            assert left - 1 <= text[0] < text[2] <= right + 1
            assert top - 1 <= text[1] < text[3] <= bottom + 1


def test_dark_mode_darkens_the_page_and_lights_up_the_figures(probes):
    light = probes("--window-size=1280,2000")
    dark = probes("--blink-settings=preferredColorScheme=0")

    def brightness(colour: str) -> float:
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert brightness(light["background"]) > 230 > 90 > brightness(light["ink"])
    assert brightness(dark["background"]) < 60 < 180 < brightness(dark["ink"])
