"""The page on scaling: what it shows runs, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ELSEWHERE = ("SLURMCluster", "set_default_api_key")
"""What marks a snippet that needs a SLURM cluster or a server."""


@pytest.mark.slow
def test_snippets_run():
    pytest.importorskip("distributed", reason="pip install 'neuros-mechint[distributed]'")
    names = {"__name__": "__main__"}
    here = [text for text in SNIPPETS if not any(mark in text for mark in ELSEWHERE)]
    assert len(here) == len(SNIPPETS) - len(ELSEWHERE)
    for text in here:
        exec(compile(text, str(PAGE), "exec"), names)


@pytest.mark.parametrize("mark", ELSEWHERE)
def test_the_others_are_python(mark):
    [text] = [text for text in SNIPPETS if mark in text]
    compile(text, str(PAGE), "exec")
