"""Draw the picture at the top of the README from the quickstart's results: ``python scripts/readme_picture.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from neuros_mechint.core.figures.style import style
from neuros_mechint.workflows.quickstart import quickstart
from neuros_mechint.workflows.quickstart_page import alone_and_together

TARGET = Path(__file__).parents[1] / "docs" / "images" / "quickstart.png"


def main() -> None:
    """Write the picture."""
    results = quickstart(Path(tempfile.mkdtemp()) / "page.html").results
    panels = {
        "Where each head looks": results["attention"],
        "Where the answer travels": results["positions"],
        "Heads alone, and together": alone_and_together(results["heads"], results["joint"]),
        "How an RNN remembers three bits": results["trajectories"],
    }
    with style():
        figure = Figure(figsize=(13, 7.2), layout="constrained", dpi=110)
        # each in a figure of its own: the wide legend of one leaves no gap in another
        for part, (title, result) in zip(figure.subfigures(2, 2).flat, panels.items(), strict=True):
            ax = part.subplots()
            result.plot(ax)
            ax.set_title(title, loc="left")
        figure.savefig(TARGET, facecolor="white")


if __name__ == "__main__":
    main()
