from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import neuros_mechint

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ["3.11", "3.12", "3.13"]
SETUP_LINES = [
    "python -m pip install -c constraints.txt -e . && neuros-mechint quickstart",
    'python -m pip install -c constraints.txt -e ".[dev]" && python -m pytest',
]


@pytest.fixture(scope="module")
def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project(settings):
    return settings["project"]


@pytest.fixture(scope="module")
def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def pinned(constraints, python):
    environment = {"python_version": python}
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in constraints
        if pin.marker is None or pin.marker.evaluate(environment)
    }


def requirements(project, python):
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    parsed = [Requirement(text) for group in groups for text in group]
    own = project["name"]
    return [
        each
        for each in parsed
        if each.name != own and (each.marker is None or each.marker.evaluate({"python_version": python}))
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_tested_versions_satisfy_the_declared_requirements(project, constraints, python):
    pins = pinned(constraints, python)
    broken = [
        f"{requirement} but constraints.txt pins {pins[name]}"
        for requirement in requirements(project, python)
        if (name := canonicalize_name(requirement.name)) in pins
        and not requirement.specifier.contains(Version(pins[name]), prereleases=True)
    ]
    assert not broken, "\n".join(broken)


def test_every_core_and_dev_dependency_is_pinned_for_the_tested_python(project, constraints):
    pins = pinned(constraints, "3.11")
    dev = project["optional-dependencies"]["dev"] + project["dependencies"]
    unpinned = [
        text
        for text in dev
        if (each := Requirement(text)).name != project["name"]
        and (each.marker is None or each.marker.evaluate({"python_version": "3.11"}))
        and canonicalize_name(each.name) not in pins
    ]
    assert not unpinned, f"add to constraints.txt: {unpinned}"


def test_constraints_are_exact_public_versions_without_paths(constraints):
    for pin in constraints:
        specifiers = list(pin.specifier)
        assert pin.url is None
        assert [each.operator for each in specifiers] == ["=="], f"{pin} is not an exact pin"
        assert "+" not in specifiers[0].version, f"{pin} names a local build, which no index has"
    assert canonicalize_name("neuros-mechint") not in {canonicalize_name(pin.name) for pin in constraints}


def test_weights_of_unknown_licence_are_in_dev_and_tutorials_and_never_in_all(project):
    extras = project["optional-dependencies"]
    assert "models" in Requirement(extras["dev"][0]).extras
    assert any("models" in Requirement(each).extras for each in extras["tutorials"])
    assert "models" not in Requirement(extras["all"][0]).extras


SOFT_IMPORT = re.compile(r"soft_import\(\s*\"([a-z]+)[^()]*?(?:\"([a-z-]+)\"\s*)\)")
IMPORTED = re.compile(r"^\s*(?:import|from) ([a-z_]+)", re.MULTILINE)
EXTRAS_BY_LIBRARY = {
    "captum": "attribution",
    "himalaya": "encoding",
    "neo": "neuro-io",
    "nir": "snn",
    "plotly": "viz",
    "powerlaw": "criticality",
    "pydmd": "koopman",
    "pynwb": "neuro-io",
    "ripser": "topology",
    "ruptures": "phases",
    "snntorch": "snn",
}


def sources():
    return {path: path.read_text(encoding="utf-8") for path in (ROOT / "neuros_mechint").rglob("*.py")}


def test_errors_name_the_extra_that_installs_the_library(project):
    extras = project["optional-dependencies"]
    calls = [found for text in sources().values() for found in SOFT_IMPORT.findall(text) if found[0] != "transformers"]
    assert dict(calls) == EXTRAS_BY_LIBRARY
    assert set(calls) == set(EXTRAS_BY_LIBRARY.items()), "one library is said to come with several extras"
    for library, extra in EXTRAS_BY_LIBRARY.items():
        assert library in {Requirement(text).name.lower() for text in extras[extra]}, f"{extra} lacks {library}"


def test_optional_libraries_are_imported_only_where_their_absence_is_told():
    plain = [
        f"{path.name}: {library}"
        for path, text in sources().items()
        for library in IMPORTED.findall(text)
        if library in EXTRAS_BY_LIBRARY
    ]
    assert plain == ["deeplift.py: captum"], "use core.optional.soft_import"  # attribute() asked for it before


def test_the_readme_gives_exactly_the_two_setup_lines():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("python -m pip install")]
    assert lines == SETUP_LINES
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    assert blocks == [line + "\n" for line in SETUP_LINES], "each alone in a bash block"


def test_the_version_is_the_same_everywhere(project):
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["dynamic"] == ["version"], "it is read from neuros_mechint.__version__"
    assert f"version: {neuros_mechint.__version__}\n" in citation


def test_the_root_folders_hold_no_importable_code():
    for folder in ("adapters", "neuro"):
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder} would shadow other packages"


def test_every_layer_without_model_libraries_has_its_contract(settings):
    contracts = settings["tool"]["importlinter"]["contracts"]
    (forbidden,) = [contract for contract in contracts if contract["type"] == "forbidden"]
    package = ROOT / "neuros_mechint"
    layers = [name for name in ("core", "neuro", "datasets") if (package / name / "__init__.py").exists()]
    assert set(forbidden["source_modules"]) == {f"neuros_mechint.{name}" for name in layers}


def test_the_console_script_points_at_the_command_line(project):
    assert project["scripts"] == {"neuros-mechint": "neuros_mechint.cli:main"}


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")]), ids=lambda path: path.name
)
def test_scripts_and_benchmarks_import_names_that_exist(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neuros_mechint"):
            for name in (one.name for one in node.names):
                if not hasattr(importlib.import_module(str(node.module)), name):
                    importlib.import_module(f"{node.module}.{name}")  # a module, or an error
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "nm":
            assert hasattr(neuros_mechint, node.attr), node.attr
