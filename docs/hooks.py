"""Build the pages of the documentation from the files they are about, so that nothing is written twice."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

# found through the line above
import _benchmark_page  # noqa: E402
import _markdown  # noqa: E402
import _notebooks  # noqa: E402
import _reference  # noqa: E402
import status  # noqa: E402

# Files outside docs/ that become pages, and the page each becomes.
PAGES = {
    "README.md": "index.md",
    "STATUS.md": "status.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "neuro/README.md": "methods/index.md",
    "adapters/README.md": "adapters/index.md",
    "adapters/SUPPORT.md": "adapters/support.md",
    "adapters/example_plugin/README.md": "adapters/example.md",
    "tutorials/README.md": "tutorials/index.md",
}
OTHER_SOURCES = {"benchmarks/RESULTS.md": "benchmarks.md", "benchmarks/README.md": "benchmarks.md"}
# Pages in docs/ itself, and how the navigation calls them.
WRITTEN = {"tour.md": "A tour", "workflows.md": "Which workflow?", "scaling.md": "At scale"}
WIDE = ("adapters/support.md", "reference/index.md", "status.md")  # tables that need the room of the table of contents
FOR_USERS_OF = "for_users_of/"  # a folder of docs/: one page per other library
MARKDOWN_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")
CODE = re.compile(
    r"(?P<skip><a\b.*?</a>|<h\d.*?</h\d>|<pre.*?</pre>|<svg.*?</svg>)|<code>(?P<text>(?:nm\.)?(?P<name>\w+)(?:\([^<]*\))?)</code>",
    flags=re.DOTALL,
)


@cache
def read_cards() -> list[status.Card]:
    """Return the method cards, by name."""
    return status.read_cards()


@cache
def sources() -> dict[str, str]:
    """Return source file -> page, both as paths with forward slashes."""
    cards = {f"neuro/cards/{card.path.name}": f"methods/{card.path.name}" for card in read_cards()}
    tutorials = {f"tutorials/{path.name}": f"tutorials/{path.stem}.md" for path in _notebooks.notebooks()}
    written = {f"docs/{path.relative_to(ROOT / 'docs').as_posix()}" for path in (ROOT / "docs").rglob("*.md")}
    files = {**PAGES, **cards, **tutorials, **OTHER_SOURCES, **{path: path.removeprefix("docs/") for path in written}}
    return {source: page for source, page in files.items() if (ROOT / source).is_file()}


def relinked(text: str, source: str, figures: Collection[str] = ()) -> str:
    """Return the text of a source file with its links pointing at pages and figures; others become plain text."""
    here = posixpath.dirname(sources()[source]) or "."

    def relink(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        if target in figures:
            return match[0]
        target, _, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = sources().get(file) or sources().get(posixpath.join(file, "README.md"))
        if page is None and file.startswith("docs/") and (ROOT / file).is_file():
            page = file.removeprefix("docs/")
        if page is None:
            return "" if image else words
        return f"{image}[{words}]({posixpath.relpath(page, here)}{'#' + anchor if anchor else ''})"

    return MARKDOWN_LINK.sub(relink, text)


def page_text(source: str) -> str:
    """Return the page that a Markdown file becomes."""
    content = (ROOT / source).read_text(encoding="utf-8")
    front_matter = status.FRONT_MATTER.match(content)
    return relinked(front_matter[2] if front_matter else content, source)


def card_text(card: status.Card) -> str:
    """Return the page of a card, with what its front matter says."""
    heading, rest = page_text(source_of(card)).strip().split("\n", 1)
    names = ", ".join(f"`{name}`" for name in card.covers)
    papers = "\n".join(f"- {paper}" for paper in card.papers)
    return f"{heading}\n\n*{card.status}* · {names}\n\n{papers}\n{rest}"


def source_of(card: status.Card) -> str:
    """Return the path of a card in the repository."""
    return card.path.relative_to(ROOT).as_posix()


@cache
def pages() -> dict[str, str | bytes]:
    """Return page or figure -> content."""
    made: dict[str, str | bytes] = {page: page_text(source) for source, page in PAGES.items() if source in sources()}
    cards = {source_of(card): card for card in read_cards()}
    made |= {sources()[source]: card_text(card) for source, card in cards.items()}
    covered = {name: (card.name, sources()[source]) for source, card in cards.items() for name in card.covers}
    for notebook in _notebooks.notebooks():
        source = f"tutorials/{notebook.name}"
        text, figures = _notebooks.page(notebook)
        made[sources()[source]] = relinked(text, source, figures)
        made |= {f"tutorials/{name}": figure for name, figure in figures.items()}
    made["benchmarks.md"] = relinked(_benchmark_page.page(), "benchmarks/RESULTS.md")
    made |= _reference.pages(covered)
    return made | {page: f"---\nhide: [toc]\n---\n\n{made[page]}" for page in WIDE}


def cards_by_room() -> list[object]:
    """Return the method cards' part of the navigation, in the order of the rooms that the methods are in."""
    by_room: dict[str, list[str]] = {}
    for card in read_cards():
        first = card.module.removeprefix("neuros_mechint.").split(".")
        room = "/".join(first[:2]) if first[0] == "neuro" else first[0]
        by_room.setdefault(room, []).append(sources()[source_of(card)])
    return [{_reference.title(room): cards} for room, cards in sorted(by_room.items())]


def navigation() -> list[object]:
    """Return the navigation; a page of docs/ that is not written yet is left out."""
    written = [{title: page} for page, title in WRITTEN.items() if (ROOT / "docs" / page).is_file()]
    others = sorted(page for page in sources().values() if page.startswith(FOR_USERS_OF))
    tutorials = [{_notebooks.title(path): f"tutorials/{path.stem}.md"} for path in _notebooks.notebooks()]
    overview = ["tutorials/index.md"] if "tutorials/README.md" in sources() else []
    numbers = [{"What works": "status.md"}, {"Benchmarks": "benchmarks.md"}]
    return [
        {"Home": ["index.md", *written, {"Coming from": others}, *numbers]},
        {"Tutorials": [*overview, *tutorials]},
        {"Methods": ["methods/index.md", *cards_by_room()]},
        {"Reference": _reference.navigation()},
        {
            "Adapters": [
                "adapters/index.md",
                {"What each kind of model offers": "adapters/support.md"},
                {"An example": "adapters/example.md"},
                {"BaseAdapter": _reference.FOR_ADAPTER_AUTHORS},
            ]
        },
        {"Project": [{"Contributing": "contributing.md"}, {"Changelog": "changelog.md"}]},
    ]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation, and add what the pages need of Markdown."""
    for remembered in (read_cards, sources, pages):  # `mkdocs serve` builds again when one of the files changes
        remembered.cache_clear()
    config.nav = navigation()
    config.markdown_extensions.append(_markdown.Pages())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to what mkdocs found in docs/."""
    from mkdocs.structure.files import File

    for page, content in pages().items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links of the pages in docs/ itself point at the pages of other files."""
    source = f"docs/{page.file.src_uri}"
    return relinked(markdown, source) if source in sources() else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw formulae without a script, and link the public names in the text to the reference."""

    def link(match: re.Match[str]) -> str:
        place = _reference.places().get(match["name"] or "")
        if place is None:
            return match[0]
        target, _, anchor = place.partition("#")
        url = files.get_file_from_path(target).url_relative_to(page.file)  # type: ignore[union-attr]
        return f'<a class="public-name" href="{url}#{anchor}"><code>{match["text"]}</code></a>'

    return CODE.sub(link, _markdown.with_mathml(html))
