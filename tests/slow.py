"""Cases left to the slow run: they repeat, on more data, what the cases beside them show."""

from __future__ import annotations

from typing import Any

import pytest


def slow_case(*values: Any) -> Any:
    """Mark one case as slow: ``parametrize("seed", [0, *map(slow_case, range(1, 5))])``."""
    return pytest.param(*values, marks=pytest.mark.slow)
