from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import neuros_mechint

PACKAGE = Path(neuros_mechint.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
MODEL_LIBRARIES = {"transformers", "transformer_lens", "nnsight", "sae_lens", "brian2"}
GLOBAL_SEEDS = {"np.random.seed", "numpy.random.seed", "torch.manual_seed", "random.seed"}
PICKLES = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
# Work goes to our own processes, and nnsight's requests to its servers, in this form; nobody else's file is read in it.
SENDS_WORK = {"adapters/nnsight.py": {"cloudpickle"}, "core/parallel.py": {"cloudpickle", "pickle"}}


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(node: ast.AST) -> set[str]:
    """Top-level packages an import statement names; relative imports name none."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return {node.module.split(".")[0]}
    return set()


def imports_of(nodes: Iterable[ast.AST]) -> set[str]:
    return set().union(*map(imported, nodes))


def statements_run_on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node outside functions and outside `if TYPE_CHECKING:`."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


@cache
def calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(parse(path)) if isinstance(node, ast.Call)}


def offences(found: Callable[[Path], set[str]]) -> dict[str, set[str]]:
    """The files in which something was found, with what it was."""
    return {name(path): what for path in FILES if (what := found(path))}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = function.body[:1] if ast.get_docstring(function) is not None else []
    return n_lines(function) - sum(map(n_lines, docstring))


def n_lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_file_is_short_enough_to_read():
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {path: count for path, count in lines.items() if count > MAX_FILE_LINES}
    assert not long, f"split by what they do: {long}"


def test_a_function_fits_a_screen():
    long = [
        f"{name(path)}: {node.name} ({code_lines(node)} lines)"
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > MAX_FUNCTION_LINES
    ]
    assert not long, f"split {long}"


def test_nothing_prints():
    printing = [name(path) for path in FILES if "print" in calls(path)]
    assert not printing, f"{printing}: return it, log it, or use typer.echo in the command line"


def test_no_global_random_state_is_touched():
    touched = offences(lambda path: GLOBAL_SEEDS & calls(path))
    assert not touched, f"{touched}: take `seed: int | Generator` instead (core/random.py)"


def test_no_pickle():
    used = offences(lambda path: imports_of(ast.walk(parse(path))) & PICKLES)
    used = {path: names - SENDS_WORK.get(path, set()) for path, names in used.items()}
    used = {path: names for path, names in used.items() if names}
    assert not used, f"{used} run code when they load a file: use safetensors, netCDF, zarr or JSON"


def test_model_libraries_are_imported_only_inside_functions():
    used = offences(lambda path: imports_of(statements_run_on_import(parse(path))) & MODEL_LIBRARIES)
    assert not used, f"import {used} inside the function that needs it"


def test_the_style_checks_can_fail():
    bad = ast.parse("import pickle\nclass A:\n    import transformers\ndef f():\n    import nnsight\n")
    assert imports_of(statements_run_on_import(bad)) == {"pickle", "transformers"}
