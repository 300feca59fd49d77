"""Run benchmarks and record what each printed, when, on which machine and with which versions.

``python scripts/record_benchmarks.py energy fractals`` runs two of them, without names all whose libraries are
installed; each writes ``benchmarks/recorded/NAME.json``, of which the documentation makes its page of benchmarks.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
RECORDED = BENCHMARKS / "recorded"


def benchmarks() -> dict[str, Path]:
    """Return name -> script."""
    return {path.stem.removeprefix("bench_"): path for path in sorted(BENCHMARKS.glob("bench_*.py"))}


def imported(script: Path) -> set[str]:
    """Return the names of the libraries and neighbours that a script imports, anywhere in it."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {module.split(".")[0] for module in modules}


def missing(script: Path) -> list[str]:
    """Return what a script imports and is not installed."""
    return sorted(
        name
        for name in imported(script)
        if not (BENCHMARKS / f"{name}.py").is_file() and importlib.util.find_spec(name) is None
    )


def versions(script: Path) -> dict[str, str]:
    """Return the versions of the libraries that a script imports."""
    providers = importlib.metadata.packages_distributions()
    used = {name for module in imported(script) for name in providers.get(module, [])} | {"torch", "numpy"}
    return {name: importlib.metadata.version(name) for name in sorted(used, key=str.lower)}


def machine() -> str:
    """Return the processor, its cores, and how busy the machine is with whatever else runs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {cores} cores{load}"


def record(name: str, script: Path) -> dict[str, Any]:
    """Run one benchmark and return its record."""
    before, begin = machine(), time.monotonic()
    threads = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, env=threads, stdout=subprocess.PIPE, text=True, check=True
    )
    return {
        "benchmark": name,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": f"{before}, {threads['OMP_NUM_THREADS']} thread(s)",
        "python": platform.python_version(),
        "versions": versions(script),
        "seconds": round(time.monotonic() - begin),
        "output": done.stdout.splitlines(),
    }


def main() -> int:
    """Run the benchmarks that were named, or all."""
    known = benchmarks()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    given = parser.parse_args().names
    names = given or list(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    RECORDED.mkdir(exist_ok=True)
    for name in names:
        print(f"== {name}", flush=True)
        lacks = missing(known[name])
        if lacks and not given:
            print(f"left out: not installed: {', '.join(lacks)}", flush=True)
            continue
        found = record(name, known[name])
        print(*found["output"], sep="\n", flush=True)
        (RECORDED / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
