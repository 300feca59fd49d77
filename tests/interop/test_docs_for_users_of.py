"""The pages for users of other libraries: each pair of snippets runs, and both sides give the same numbers."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

PAGES = Path(__file__).resolve().parents[2] / "docs" / "for_users_of"
SNIPPET = re.compile(r'^```python(?: title="([^"]*)")?\n(.*?)^```$', flags=re.DOTALL | re.MULTILINE)
OURS = "neuros-mechint"

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*in an MPS:UserWarning"),
]


def snippets(page: str) -> list[tuple[str, str]]:
    """Title and code of every snippet on a page, in order."""
    return SNIPPET.findall((PAGES / f"{page}.md").read_text(encoding="utf-8"))


def run(code: str, file: Path, names: dict[str, Any]) -> None:
    """Run code as that of a file: nnsight reads the source of what stands in a trace."""
    file.write_text(code, encoding="utf-8")
    linecache.checkcache(str(file))
    exec(compile(code, str(file), "exec"), names)


def numbers(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def pairs_that_agree(page: str, folder: Path) -> int:
    """Run a page from top to bottom and compare both sides of each pair."""
    names: dict[str, Any] = {"__name__": page}
    pairs = 0
    for number, (title, code) in enumerate(snippets(page)):
        run(code, folder / f"{page}_{number}.py", names)
        if title == OURS:
            theirs, ours = numbers(names.pop("theirs")), numbers(names.pop("ours"))
            assert theirs.shape == ours.shape, code
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=code)
            assert np.abs(theirs).max() > 1e-4, f"both are zero: {code}"
            pairs += 1
    return pairs


@pytest.mark.parametrize(("page", "pairs"), [("transformerlens", 10), ("nnsight", 4), ("saelens", 2)])
def test_both_sides_of_every_pair_give_the_same(
    page: str, pairs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        assert pairs_that_agree(page, tmp_path) == pairs


def test_every_page_is_run() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == ["nnsight", "saelens", "transformerlens"]


def test_a_pair_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = '```python title="nnsight"\ntheirs = 1.0\n```\n```python title="neuros-mechint"\nours = 1.1\n```\n'
    (tmp_path / "wrong.md").write_text(wrong)
    monkeypatch.setattr(f"{__name__}.PAGES", tmp_path)
    with pytest.raises(AssertionError, match=r"ours = 1\.1"):
        pairs_that_agree("wrong", tmp_path)
