from __future__ import annotations

import os
import threading
import time

import joblib
import pytest

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.parallel import parallel_map


def slow_square(x):
    time.sleep(0.02 * (x % 3 == 0))  # early items finish late
    return x * x


def fail_at_three(x):
    if x == 3:
        raise InputError("three is not allowed", expected="another number", got=x)
    return x


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("progress", [False, True])
def test_results_come_in_the_order_of_the_items(backend, progress):
    with joblib.parallel_config(backend=backend):
        assert parallel_map(slow_square, range(7), n_jobs=2, progress=progress) == [x * x for x in range(7)]


def test_one_job_works_in_this_thread_and_takes_any_iterable():
    threads = parallel_map(lambda _: threading.get_ident(), iter("abc"))
    assert threads == [threading.get_ident()] * 3
    assert parallel_map(slow_square, []) == []


def test_none_takes_the_number_of_jobs_from_joblib():
    def where(_):
        time.sleep(0.02)
        return threading.get_ident()

    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert threading.get_ident() not in parallel_map(where, range(4), n_jobs=None)
    assert set(parallel_map(where, range(4), n_jobs=None)) == {threading.get_ident()}


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("progress", [False, True])
def test_an_error_keeps_its_type_and_text_and_says_for_which_item(n_jobs, progress):
    with pytest.raises(InputError, match="three is not allowed") as caught:
        parallel_map(fail_at_three, range(5), n_jobs=n_jobs, progress=progress)
    assert caught.value.__notes__ == ["while working on item 3 of 5 (counted from 0)"]
    assert "expected: another number" in str(caught.value)


def test_worker_processes_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    allowed = parallel_map(lambda _: int(os.environ["OMP_NUM_THREADS"]), range(2), n_jobs=2)
    assert max(allowed) <= max(1, joblib.cpu_count() // 2)
