"""Give every notebook its Colab badge and its first cell; ``--run`` executes those named, ``--check`` changes nothing.

Where Colab finds the notebooks, and pip the package, is said once: in ``[tool.tutorials]`` of pyproject.toml.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "tutorials"
BADGE = re.compile(r"\[!\[Open in Colab\]\(.*?\)\]\(.*?\)\n*")
PROCESS = re.compile(r"/tmp/ipykernel_\d+/\d+\.py")
INSTALL = re.compile(r"\Atry:\n    import neuros_mechint\b.*?\nexcept ImportError:\n(?:    .*\n)+")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def source() -> dict[str, str]:
    """Return ``repository`` and ``branch``, as pyproject.toml has them."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["tutorials"]


def badge(name: str) -> str:
    """Return the line that opens a notebook in Colab."""
    where = "{repository}/blob/{branch}".format(**source())
    link = f"https://colab.research.google.com/github/{where}/tutorials/{name}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})\n\n"


def install() -> str:
    """Return the beginning of the first cell with code: it installs the package where it is not there."""
    origin = "git+https://github.com/{repository}@{branch}".format(**source())
    return (
        "try:\n    import neuros_mechint  # noqa: F401\nexcept ImportError:\n"
        f'    %pip install -q "neuros-mechint[tutorials] @ {origin}"\n'
    )


def finished(notebook: Any, name: str) -> Any:
    """Return a notebook with badge, first cell and plain metadata; texts and outputs stay as they are.

    When a cell ran and in which process is nobody's business: two runs that print the same are the same file.
    """
    title, first = notebook.cells[0], notebook.cells[1]
    if title.cell_type != "markdown" or first.cell_type != "code" or not INSTALL.match(first.source):
        raise SystemExit(f"{name}: begin with a cell of text and one with `try: import neuros_mechint`")
    title.source = badge(name) + BADGE.sub("", title.source)
    first.source = INSTALL.sub(lambda _: install(), first.source)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", ()):
            if "text" in output:
                output.text = PROCESS.sub("<notebook>", output.text)
    return notebook


def joined(outputs: list[Any]) -> list[Any]:
    """Return outputs in which what was printed in one go is one text: how it came in pieces is chance."""
    kept: list[Any] = []
    for output in outputs:
        if kept and output.output_type == "stream" == kept[-1].output_type and output.name == kept[-1].name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def problems(notebook: Any) -> list[str]:
    """Return what readers would miss in a stored notebook."""
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            found.append(f"cell {number} was not run")
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {number} ended in an error")
    return found


def run(notebook: Any) -> Any:
    """Execute a notebook as its readers will, and keep the outputs."""
    from nbclient import NotebookClient

    os.environ.update(TQDM_DISABLE="1")  # stored bars are noise
    os.environ.pop("MPLBACKEND", None)  # figures go into the notebook
    return NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(TUTORIALS)}}).execute()


def main() -> int:
    """Finish, run or check the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of tutorials/ where none is named")
    parser.add_argument("--run", action="store_true", help="execute them, and store their outputs")
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    arguments = parser.parse_args()
    found = []
    for path in arguments.notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        notebook = finished(nbformat.reads(before, as_version=4), path.name)
        if arguments.run:
            notebook = finished(run(notebook), path.name)
        after = nbformat.writes(notebook) + "\n"
        found += [f"{path.name}: {problem}" for problem in problems(notebook)]
        if arguments.check and after != before:
            found.append(f"{path.name} is out of date: run `python scripts/tutorials.py`")
        elif after != before:
            path.write_text(after, encoding="utf-8")
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
