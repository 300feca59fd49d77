from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import neuros_mechint

HEAVY = ["torch", "pandas", "scipy", "matplotlib", "xarray", "transformers", "sklearn", "zarr"]
STUB = Path(neuros_mechint.__file__).with_suffix(".pyi")
FIX = "Import heavy libraries inside functions, and list public names only in neuros_mechint/__init__.pyi."

TIME_ONE_IMPORT = """
import importlib, json, sys, time
start = time.perf_counter()
importlib.import_module(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def import_in_fresh_process(name):
    command = [sys.executable, "-c", TIME_ONE_IMPORT, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def stub_names():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]


def test_importing_the_package_loads_nothing_heavy():
    loaded = import_in_fresh_process("neuros_mechint")["modules"]
    heavy = sorted(set(HEAVY) & set(loaded))
    assert not heavy, f"`import neuros_mechint` loads {heavy}. {FIX}"


def test_importing_the_package_costs_at_most_twice_numpy():
    # The fastest of several interleaved runs: what else the machine does can only slow a run down.
    runs = [(import_in_fresh_process("neuros_mechint"), import_in_fresh_process("numpy")) for _ in range(4)]
    ours, numpy = (min(run[column]["seconds"] for run in runs) for column in (0, 1))
    assert ours <= 2 * numpy, f"{ours:.3f} s against {numpy:.3f} s for numpy. {FIX}"


def test_every_name_in_the_stub_resolves():
    missing = [name for name in stub_names() if getattr(neuros_mechint, name, None) is None]
    assert not missing


def test_dir_lists_every_public_name():
    assert set(stub_names()) <= set(dir(neuros_mechint))


def test_the_stub_names_each_thing_once_and_as_itself():
    names = stub_names()
    assert len(names) == len(set(names))
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name, f"re-export it: import {alias.name} as {alias.name}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = neuros_mechint.no_such_name
