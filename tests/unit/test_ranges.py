"""Numbers from an interval: which ends belong to it, and what is said of others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from neuros_mechint.core.errors import OptionError, number

WITHIN = {"right": [False, True], "left": [True, False], "both": [True, True], "neither": [False, False]}


@pytest.mark.parametrize("closed", WITHIN)
def test_ends_belong_to_the_interval_or_do_not(closed: str) -> None:
    assert number("x", np.float32(0.5), 0, 1, closed) == 0.5
    for end, within in zip([0, 1], WITHIN[closed], strict=True):
        if within:
            assert number("x", end, 0, 1, closed) == end
        else:
            with pytest.raises(OptionError, match="x is out of range"):
                number("x", end, 0, 1, closed)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None, [1.0], 1j])
def test_what_is_no_finite_number(value: Any) -> None:
    with pytest.raises(OptionError, match=r"expected: +a finite number\n"):
        number("x", value, -math.inf, math.inf, "both")


def test_what_is_expected_is_said() -> None:
    for ends, closed, says in [
        ((0, math.inf), "left", "a finite number of at least 0"),
        ((0, 1), "neither", "a number above 0 and below 1"),
        ((-math.inf, 2), "right", "a finite number up to 2"),
    ]:
        with pytest.raises(OptionError, match=says):
            number("x", 5e300 if ends[1] != math.inf else -1, *ends, closed)
