from __future__ import annotations

import io
import sys

from neuros_mechint.core.progress import progress_bar


def test_items_pass_through_in_order():
    for enabled in (True, False):
        assert list(progress_bar(iter("abc"), total=3, description="letters", enabled=enabled)) == [
            "a",
            "b",
            "c",
        ]


def test_disabled_returns_the_iterable_itself():
    items = [1, 2]
    assert progress_bar(items, enabled=False) is items


def test_short_loops_stay_silent_and_long_ones_show(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", stream)
    list(progress_bar(range(3), description="fast"))
    assert "fast" not in stream.getvalue()
    bar = progress_bar(range(3), description="slow")
    bar.start_t -= 10
    bar.mininterval = 0
    list(bar)
    assert "slow" in stream.getvalue()


def test_a_log_file_gets_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    items = [1, 2]
    assert progress_bar(items) is items
