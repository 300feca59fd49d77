"""Write STATUS.md, what works, from the method cards; ``--check`` fails where it is out of date."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from _generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "neuro" / "cards"
STATUS = ROOT / "STATUS.md"
STATES = ("tested", "experimental")
SECTIONS = ("Equation", "What it shows", "What it does not show", "Known answer", "Failure modes")
FRONT_MATTER = re.compile(r"\A---\n(.*?)^---\n(.*)\Z", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """One method card: its front matter and its sections by heading."""

    path: Path
    name: str
    covers: tuple[str, ...]
    module: str
    status: str
    papers: tuple[str, ...]
    tests: tuple[str, ...]
    sections: dict[str, str]


def read_card(path: Path) -> Card:
    """Read one card."""
    parts = FRONT_MATTER.match(path.read_text(encoding="utf-8"))
    if parts is None:
        raise ValueError(f"{path}: expected front matter between two lines of ---, as in neuro/TEMPLATE.md")
    fields = yaml.safe_load(parts[1])
    _, *pieces = re.split(r"^## (.+)\n", parts[2], flags=re.MULTILINE)
    return Card(
        path=path,
        name=fields["name"],
        covers=tuple(fields["covers"]),
        module=fields["module"],
        status=fields["status"],
        papers=tuple(fields["papers"]),
        tests=tuple(fields["tests"]),
        sections={heading: text.strip() for heading, text in zip(pieces[::2], pieces[1::2], strict=True)},
    )


def read_cards() -> list[Card]:
    """Read all cards, by name."""
    return sorted((read_card(path) for path in CARDS.glob("*.md")), key=lambda card: card.name.lower())


def status_page(cards: list[Card]) -> str:
    """Return the text of STATUS.md."""
    lines = [
        "# What works",
        "",
        "Written by `scripts/status.py` from the [method cards](neuro/README.md); do not edit.",
        "*tested*: held to a known answer by that test. *experimental*: checked, without a ground truth.",
        "",
        "| method | names | status | known-answer test |",
        "|---|---|---|---|",
    ]
    for card in cards:
        names = ", ".join(f"`{name}`" for name in card.covers)
        link = card.path.relative_to(ROOT).as_posix()
        lines.append(f"| [{card.name}]({link}) | {names} | {card.status} | `{card.tests[0]}` |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check STATUS.md."""
    return write_or_check(STATUS, lambda: status_page(read_cards()), __doc__)


if __name__ == "__main__":
    sys.exit(main())
