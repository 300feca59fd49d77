"""Build the pages of the documentation from the files they are about, so that nothing is written twice."""

from __future__ import annotations

import ast
import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import status  # noqa: E402  (found through the line above)

# Files outside docs/ that become pages, and the page each becomes.
PAGES = {
    "README.md": "index.md",
    "STATUS.md": "status.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "neuro/README.md": "methods/index.md",
}
FOR_ADAPTER_AUTHORS = ["neuros_mechint.adapters.base.BaseAdapter"]
MARKDOWN_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def sources() -> dict[str, str]:
    """Return source file -> page, both as paths with forward slashes."""
    cards = {f"neuro/cards/{card.path.name}": f"methods/{card.path.name}" for card in status.read_cards()}
    return {source: page for source, page in {**PAGES, **cards}.items() if (ROOT / source).is_file()}


def public_names() -> dict[str, list[str]]:
    """Return subpackage -> dotted paths of its public names, in the order of the stub."""
    stub = ast.parse((ROOT / "neuros_mechint" / "__init__.pyi").read_text(encoding="utf-8"))
    names: dict[str, list[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            paths = [f"neuros_mechint.{node.module}.{alias.name}" for alias in node.names]
            names.setdefault(node.module.split(".")[0], []).extend(paths)
    return names


def page_text(source: str, pages: dict[str, str]) -> str:
    """Return the text of a source file with its links pointing at pages; other links become plain text."""

    def relink(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        target, _, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        here = posixpath.dirname(pages[source])
        if file.startswith("docs/") and (ROOT / file).is_file():
            return f"{image}[{text}]({posixpath.relpath(file.removeprefix('docs/'), here or '.')})"
        page = pages.get(file) or pages.get(posixpath.join(file, "README.md"))
        if page is None:
            return "" if image else text
        return f"[{text}]({posixpath.relpath(page, here or '.')}{'#' + anchor if anchor else ''})"

    content = (ROOT / source).read_text(encoding="utf-8")
    front_matter = status.FRONT_MATTER.match(content)
    return MARKDOWN_LINK.sub(relink, front_matter[2] if front_matter else content)


def card_header(card: status.Card) -> str:
    """Return what the front matter of a card says, for readers."""
    names = ", ".join(f"`neuros_mechint.{name}`" for name in card.covers)
    papers = "\n".join(f"- {paper}" for paper in card.papers)
    return f"\n*{card.status}* · {names}\n\n{papers}\n"


def reference_text(title: str, paths: list[str]) -> str:
    """Return a page of the reference."""
    return f"# {title}\n\n" + "\n\n".join(f"::: {path}" for path in paths) + "\n"


def pages() -> dict[str, str]:
    """Return page -> text, in the order of the navigation."""
    known = sources()
    texts = {page: page_text(source, known) for source, page in known.items()}
    for card in status.read_cards():
        page = known[card.path.relative_to(ROOT).as_posix()]
        title, rest = texts[page].strip().split("\n", 1)
        texts[page] = f"{title}\n{card_header(card)}{rest}"
    for package, paths in public_names().items():
        texts[f"reference/{package}.md"] = reference_text(f"neuros_mechint.{package}", paths)
    texts["reference/adapter_authors.md"] = reference_text("For authors of adapters", FOR_ADAPTER_AUTHORS)
    return texts


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation."""
    made = list(pages())
    config.nav = [
        "index.md",
        {"What works": "status.md"},
        {"Methods": [page for page in made if page.startswith("methods/")]},
        {"Reference": [page for page in made if page.startswith("reference/")]},
        {"Contributing": "contributing.md"},
        {"Changelog": "changelog.md"},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to what mkdocs found in docs/."""
    from mkdocs.structure.files import File

    for page, text in pages().items():
        files.append(File.generated(config, page, content=text))
    return files
