"""Pages that a script writes: write them, or say that they are out of date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write_or_check(path: Path, page: Callable[[], str], description: str | None) -> int:
    """Write the page to ``path``; with ``--check`` only compare, and return 1 if they differ."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help=f"only say whether {path.name} is up to date")
    check = parser.parse_args().check
    text = page()
    if not check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path.relative_to(ROOT)} is out of date: run `python scripts/{Path(sys.argv[0]).name}`", file=sys.stderr)
    return 1
