"""Rules for all tests and doctests: offline, repeatable, single-threaded maths, no silent skips of data."""

from __future__ import annotations

import os

# Set before numpy or torch is imported: with one worker per core, threads inside a worker only contend.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["NEUROS_MECHINT_NO_BROWSER"] = "1"
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # antropy, which tests compare with, compiles for ten seconds on import

import gc
import socket
import sys
from collections.abc import Callable, Generator
from ipaddress import ip_address
from typing import Any

import _pytest.doctest
import hypothesis
import pytest

# How fast examples are drawn says more about what else the machine does than about the test.
hypothesis.settings.register_profile("default", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile(
    "repeatable", hypothesis.settings.get_profile("default"), derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("repeatable" if os.environ.get("CI") else "default")

WORKERS = 2
PYTESTS_OWN_DOCTESTS = _pytest.doctest.DoctestModule
DATA_VARIABLE = "NEUROS_MECHINT_DATA"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use two workers for the whole suite and none for chosen files, which run before workers would start."""
    whole_suite = config.args_source is not pytest.Config.ArgsSource.ARGS
    return min(WORKERS, os.cpu_count() or 1) if whole_suite else 0


def is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine (a path is a Unix socket)."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    if host in ("", "localhost", None):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_network(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if not is_local(address):
            raise RuntimeError(f"a test tried to reach {address!r}; tests must run without a network")
        return original(self, address)

    return connect


@pytest.fixture(autouse=True)
def close_figures() -> Generator[None]:
    """Close what a test drew: pyplot keeps every figure, and warns at the twenty-first, whichever test that is in."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture(autouse=True)
def brian2_as_it_comes() -> None:
    """Give each test Brian2's own time step, whatever the test before it has set, and nothing to compile."""
    brian2 = sys.modules.get("brian2")
    if brian2 is not None:
        brian2.defaultclock.dt = 0.1 * brian2.ms
        brian2.prefs.codegen.target = "numpy"


@pytest.hookimpl(tryfirst=True)
def pytest_collect_file() -> None:
    """Take back what ``import brian2`` puts in the place of pytest's doctests: it cannot collect an ``__init__.py``."""
    _pytest.doctest.DoctestModule = PYTESTS_OWN_DOCTESTS


def pytest_configure() -> None:
    socket.socket.connect = refuse_network(socket.socket.connect)
    socket.socket.connect_ex = refuse_network(socket.socket.connect_ex)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through thousands of tests and all imported modules time and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skip for missing data where data were promised: a moved folder must not switch off its tests."""
    report = yield
    promised = os.environ.get(DATA_VARIABLE)
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if promised and DATA_VARIABLE in reason:
        report.outcome = "failed"
        report.longrepr = f"{reason}\n{DATA_VARIABLE}={promised} is set, so its data must be there."
    return report
