"""Pages of the reference: where each public name stands, and what is said there."""

from __future__ import annotations

import ast
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "neuros_mechint"
OWN_PAGE = 5  # names that a folder needs for a page of its own; with fewer they stand on the page of its layer
FOR_ADAPTER_AUTHORS = "reference/adapter_authors.md"

# What a room is about, where its name does not say it.
TITLES = {
    "adapters": "Opening models",
    "adapters/brian2": "Brian2",
    "causal": "Patching, ablation and attribution",
    "causal/circuits": "Circuits of a model",
    "causal/counterfactuals": "Counterfactuals",
    "causal/experiments": "In-silico experiments",
    "causal/paths": "Paths and causal graphs",
    "core": "Sites, activations, edits, results",
    "datasets": "Models, tasks and systems to try things on",
    "features": "Sparse autoencoders and their features",
    "neuro/alignment": "Alignment with brains",
    "neuro/circuits": "Circuits from activity",
    "neuro/information": "Information and energy",
    "training": "What happens during training",
    "workflows": "Whole jobs in one call",
}


@dataclass(frozen=True)
class PublicName:
    """A public name and the module, relative to the package, that it is imported from."""

    name: str
    module: str

    @property
    def path(self) -> str:
        """Where it is defined, dotted."""
        return ".".join(filter(None, (PACKAGE, self.module, self.name)))

    @cached_property
    def summary(self) -> str:
        """The first paragraph of its docstring, for a cell of a table."""
        source = ROOT.joinpath(PACKAGE, *self.module.split("."), self.name).with_suffix(".py")
        if source.is_file():  # a module is public as a whole
            return _first_paragraph(ast.get_docstring(_parsed(source)))
        return _first_paragraph(ast.get_docstring(self.definitions()[-1]))  # the last of overloads is the function

    def definitions(self) -> list[ast.FunctionDef | ast.ClassDef]:
        """Where it is defined, as syntax; several times if it is overloaded, not at all if it is a module."""
        file = ROOT.joinpath(PACKAGE, *self.module.split(".")).with_suffix(".py")
        if not file.is_file():
            return []
        return [
            node
            for node in _parsed(file).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == self.name
        ]

    def returned(self) -> Iterator[PublicName]:
        """Yield the classes of this package, public or not, whose instances it or its methods return."""
        for definition in self.definitions():
            methods = definition.body if isinstance(definition, ast.ClassDef) else [definition]
            for method in methods:
                if isinstance(method, ast.FunctionDef) and method.returns and not method.name.startswith("_"):
                    yield from self._classes_in(method.returns)

    def _classes_in(self, annotation: ast.expr) -> Iterator[PublicName]:
        file = ROOT.joinpath(PACKAGE, *self.module.split(".")).with_suffix(".py")
        imported = _imported(file)
        for node in ast.walk(annotation):
            if isinstance(node, ast.Name) and not node.id.startswith("_"):
                candidate = PublicName(node.id, imported.get(node.id, self.module))
                if any(isinstance(one, ast.ClassDef) for one in candidate.definitions()):
                    yield candidate


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imported(path: Path) -> dict[str, str]:
    """Return what a file imports from this package -> the module, also where only for types or inside a function."""
    return {
        alias.name: (node.module or "").removeprefix(f"{PACKAGE}.")
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}.")
        for alias in node.names
    }


def _first_paragraph(docstring: str | None) -> str:
    paragraph = (docstring or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


@cache
def public_names() -> tuple[PublicName, ...]:
    """Return the public names in the order of the stub."""
    stub = _parsed(ROOT / PACKAGE / "__init__.pyi")
    return tuple(
        PublicName(alias.name, node.module or "")
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    )


@cache
def rooms() -> dict[str, list[PublicName]]:
    """Return layer or folder -> its public names, layers before their folders: ``neuro/fractals``."""
    folders = Counter(_folder(name.module) for name in public_names())
    found: dict[str, list[PublicName]] = {}
    for name in public_names():
        folder = _folder(name.module)
        room = folder if folders[folder] >= OWN_PAGE else folder.split("/")[0]
        found.setdefault(room, []).append(name)
    return dict(sorted(found.items()))


@cache
def returned() -> dict[str, list[PublicName]]:
    """Return room -> what its public names return and is no public name itself."""
    whole_modules = tuple(f"{name.path}." for name in public_names() if not name.definitions())
    seen = {name.path for name in public_names()}
    found: dict[str, list[PublicName]] = {}
    for room, names in rooms().items():
        for one in (one for name in names for one in name.returned()):
            if one.path not in seen and not one.path.startswith(whole_modules):
                own = _folder(one.module)
                found.setdefault(own if own in rooms() else room, []).append(one)
                seen.add(one.path)
    return found


def _folder(module: str) -> str:
    """Return the layer and, if the module stands in a folder of it, the folder."""
    parts = module.split(".")
    path = ROOT.joinpath(PACKAGE, *parts[:2])
    return "/".join(parts[:2]) if path.is_dir() else parts[0]


def title(room: str) -> str:
    """Return what a room is called in the navigation."""
    return TITLES.get(room) or room.rsplit("/", 1)[-1].capitalize()


def page_of(room: str) -> str:
    """Return the page of a room; a layer with folders is the index of their pages."""
    has_folders = any(other.startswith(f"{room}/") for other in rooms())
    return f"reference/{room}/index.md" if has_folders else f"reference/{room}.md"


@cache
def places() -> dict[str, str]:
    """Return name -> page and anchor, as mkdocstrings sets it."""
    shown = [*returned().items(), *rooms().items()]  # of two with one name, the public one
    return {name.name: f"{page_of(room)}#{name.path}" for room, names in shown for name in names}


def room_text(room: str, names: list[PublicName], cards: dict[str, tuple[str, str]]) -> str:
    """Return the page of a room; ``cards`` gives the title and page of the method card of a name."""
    here = posixpath.dirname(page_of(room))
    import_path = f"{PACKAGE}.{room.replace('/', '.')}"
    lines = [f"# {title(room)}", "", f"`import neuros_mechint as nm` gives all of it; the code is in `{import_path}`."]
    if len(names) > 1:
        rows = [f"| [`{name.name}`](#{name.path}) | {name.summary} |" for name in names]
        lines += ["", "| name | what it is |", "|---|---|", *rows]
    for name in names:
        lines += ["", f"::: {name.path}", ""]
        if name.name in cards:
            card, page = cards[name.name]
            lines += [f"Method card, with the paper and how it fails: [{card}]({posixpath.relpath(page, here)})", ""]
    for one in returned().get(room, []):  # what all results have stands on the page of `Result`
        lines += ["", f"::: {one.path}", "    options:", "      inherited_members: false", ""]
    return "\n".join(lines) + "\n"


def index_text() -> str:
    """Return the first page of the reference: every public name, by alphabet."""
    known = f"Every name that `import neuros_mechint as nm` gives, {len(public_names())} of them."
    lines = ["# Reference", "", known, "", "| name | what it is | page |", "|---|---|---|"]
    of_room = {name.name: room for room, names in rooms().items() for name in names}
    for name in sorted(public_names(), key=lambda one: one.name.lower()):
        link = places()[name.name].removeprefix("reference/")
        page = page_of(of_room[name.name]).removeprefix("reference/")
        lines.append(f"| [`{name.name}`]({link}) | {name.summary} | [{title(of_room[name.name])}]({page}) |")
    return "\n".join(lines) + "\n"


def pages(cards: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return page -> text of the reference."""
    authors = f"# For authors of adapters\n\n::: {PACKAGE}.adapters.base.BaseAdapter\n"
    texts = {"reference/index.md": index_text()}
    texts |= {page_of(room): room_text(room, names, cards) for room, names in rooms().items()}
    return texts | {FOR_ADAPTER_AUTHORS: authors}


def navigation() -> list[object]:
    """Return the reference's part of the navigation, layers with the rooms in them."""
    made: list[object] = ["reference/index.md"]
    layers = dict.fromkeys(room.split("/")[0] for room in rooms())
    for layer in layers:
        inside = [room for room in rooms() if room.startswith(f"{layer}/")]
        own = [page_of(layer)] if layer in rooms() else []
        below = [{title(room): page_of(room)} for room in inside]
        made.append({layer.capitalize(): [*own, *below]} if inside else {title(layer): page_of(layer)})
    return made
