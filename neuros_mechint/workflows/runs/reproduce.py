"""Repeat a run from its manifest, and compare what comes out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, StorageError, number
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.paths import path_to_write
from neuros_mechint.core.provenance import Provenance, package_versions
from neuros_mechint.core.result import Result, load_result
from neuros_mechint.workflows.runs.folder import STEPS
from neuros_mechint.workflows.runs.manifest import MANIFEST, Manifest, described, numbers_of, read_manifest
from neuros_mechint.workflows.runs.run import WorkflowOutcome
from neuros_mechint.workflows.runs.sources import CODE, EMBEDDED, FILE, FOLDER, OBJECT, Given, is_code
from neuros_mechint.workflows.runs.user_code import UserCode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EQUAL, CLOSE, DIFFERENT, MISSING = "equal", "close", "different", "missing"
_MOST_TOLD = 8
_LONGEST_TOLD = 200  # characters
_TAKE_CODE = ("model", "network", "draw", "prompts")  # what opens these knows file.py:function


class Known(NamedTuple):
    """A workflow that can be repeated.

    Parameters
    ----------
    module, function : str
        Where it is.
    openers : mapping of str to str
        ``module:function`` that opens each input, by the name of the argument.
    """

    module: str
    function: str
    openers: Mapping[str, str]


_HERE = "neuros_mechint.workflows"
WORKFLOWS: Mapping[str, Known] = {
    "dynamics": Known(
        f"{_HERE}.dynamics.analyze",
        "analyze_dynamics",
        {
            "model": f"{_HERE}.dynamics.driven:open_system",
            "inputs": f"{_HERE}.runs.sources:open_array",
            "trajectories": f"{_HERE}.runs.sources:open_array",
        },
    ),
    "understand": Known(
        f"{_HERE}.understanding.understand",
        "understand",
        {
            "model": f"{_HERE}.runs.sources:open_model",
            "prompts": f"{_HERE}.understanding.prompts:open_prompts",
            "corpus": f"{_HERE}.runs.sources:open_array",
        },
    ),
    "align": Known(
        f"{_HERE}.alignment.align",
        "align",
        {
            "model": f"{_HERE}.runs.sources:open_model",
            "recording": f"{_HERE}.alignment.brain_data:open_recording",
            "stimuli": f"{_HERE}.alignment.brain_data:open_stimuli",
        },
    ),
    "biological_training": Known(
        f"{_HERE}.biological.training",
        "biological_training",
        {
            "network": f"{_HERE}.biological.training:open_network",
            "draw": f"{_HERE}.biological.training:open_task",
        },
    ),
}
"""By the name in the manifest, which can name no other code."""


class Reproduction(Result):
    """Whether a run could be repeated.

    ``data`` holds over ``variable``, named ``step.variable``: the ``verdict`` (equal, to the last bit; close, within
    the tolerance; different; missing, in either run) and the ``difference``: the largest one, relative to the largest
    value; NaN where it is not known. What only the manifest tells of, because the results of the run are not beside it,
    is compared by its least, mean and most, as a warning says. Words are no variable: where a step says something else
    than in the manifest, a warning gives both.
    """

    @property
    def reproduced(self) -> bool:
        """Whether all numbers are equal or close."""
        return bool(np.isin(self.data["verdict"].values, (EQUAL, CLOSE)).all())

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 2.6

    def _draw(self, ax: Axes) -> None:
        verdicts = self.data["verdict"].values
        kinds = (EQUAL, CLOSE, DIFFERENT, MISSING)
        counts = [int((verdicts == kind).sum()) for kind in kinds]
        ax.barh(kinds, counts, color=[PALETTE[0], PALETTE[0], PALETTE[1], MUTED_INK])
        ax.invert_yaxis()
        ax.set_xlabel("variables")

    def _summary_lines(self) -> Iterator[str]:
        told = "reproduced" if self.reproduced else "not reproduced"
        about, verdicts = self.attributes, self.data["verdict"].values
        yield f"{about['workflow']}, run {about['started']}: {told}"
        for step in dict.fromkeys(self.data["step"].values.tolist()):
            of_step = verdicts[self.data["step"].values == step]
            counts = [f"{int((of_step == kind).sum())} {kind}" for kind in (EQUAL, CLOSE, DIFFERENT, MISSING)]
            yield f"{step}: {', '.join(count for count in counts if count[:2] != '0 ')}"
        wrong = np.flatnonzero(~np.isin(verdicts, (EQUAL, CLOSE)))
        for index in wrong[:_MOST_TOLD]:
            difference = float(self.data["difference"].values[index])
            by = f" by {difference:.3g} of its largest value" if np.isfinite(difference) else ""
            yield f"{self.data['variable'].values[index]} is {verdicts[index]}{by}"
        if len(wrong) > _MOST_TOLD:
            yield f"and {len(wrong) - _MOST_TOLD} more"
        yield f"close: within {about['tolerance']:g} of the largest value of a variable"


def reproduce(
    manifest: str | Path,
    folder: str | Path | None = None,
    tolerance: float = 1e-6,
    progress: bool = True,
    **inputs: Any,
) -> Reproduction:
    """Repeat a run from its manifest and compare every number of every step.

    Embedded models are found by name, folders and files where they were, or beside the manifest. A manifest never runs
    code: what was built by ``file.py:function`` or passed as an object must be given again, as the object or as
    ``file.py:function``, which returns it. The page of the run says how.

    Parameters
    ----------
    manifest : str or pathlib.Path
        ``manifest.json``, or the folder of the run.
    folder : str or pathlib.Path, optional
        Where the repetition is kept, as another run; not that of the manifest.
    tolerance : float
        Largest difference that still counts as close, relative to the largest value of a variable.
    progress : bool
    **inputs
        Inputs by the name of the argument that took them, ``model=...``, instead of those of the manifest. What they
        hold must be the same.

    Returns
    -------
    Reproduction

    Raises
    ------
    StorageError
        A manifest that is missing, damaged or of no workflow of this package; an input file that is missing.
    InputError
        An input that is another one than in the run, or that must be given; a seed that was a generator.

    Examples
    --------
    >>> reproduce("no_such_run")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.StorageError: there is no manifest no_such_run
      to fix:   pass the manifest.json of a folder that a workflow wrote
    """
    number("tolerance", tolerance, 0, 1, closed="left")
    path = Path(manifest)
    path = path / MANIFEST if path.is_dir() else path
    told = read_manifest(path)
    known = _known(told)
    if folder is not None and path_to_write(folder).resolve() == path.parent.resolve():
        raise InputError("the repetition would overwrite the run", got=folder, fix="choose another folder")
    unknown = set(inputs) - set(told.inputs)
    if unknown:
        raise InputError(f"the run has no input {sorted(unknown)[0]!r}", expected=f"some of {sorted(told.inputs)}")
    _check_given(told, inputs)
    opened = {name: _opened(name, told, known, path.parent, inputs.get(name)) for name in told.inputs}
    function = getattr(importlib.import_module(known.module), known.function)
    arguments = {**opened, **told.arguments, "seed": told.seed, "folder": folder, "progress": progress}
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise StorageError(f"{path} does not fit the workflow {told.workflow!r}", got=error) from error
    found = function(**arguments)
    outcome = found if isinstance(found, WorkflowOutcome) else found.outcome
    return _compared(told, path.parent, outcome, tolerance)


def _known(told: Manifest) -> Known:
    if told.workflow not in WORKFLOWS:
        raise StorageError(
            f"no workflow {told.workflow!r}", expected=f"one of {', '.join(WORKFLOWS)}", fix="see the manifest"
        )
    known = WORKFLOWS[told.workflow]
    if set(told.inputs) - set(known.openers) or set(told.arguments) & {"seed", "folder", "progress", *known.openers}:
        raise StorageError(f"the manifest does not fit the workflow {told.workflow!r}", got=sorted(told.inputs))
    if isinstance(told.seed, str):
        raise InputError("the run cannot be repeated: its seed was a generator", got=told.seed)
    if not told.finished:
        raise InputError("the run was not finished", fix="call the workflow again with the same folder: it goes on")
    return known


def _check_given(told: Manifest, inputs: Mapping[str, Any]) -> None:
    """Refuse to go on without what must be given again, and name all of it at once."""
    missing = {
        name: source
        for name, source in told.inputs.items()
        if inputs.get(name) is None and source.kind not in (EMBEDDED, FILE, FOLDER)
    }
    if missing:
        name, source = next(iter(missing.items()))
        what = "was built by code, which a manifest never runs" if source.kind == CODE else "was passed as an object"
        again = ", ".join(f"{one}=..." for one in missing)
        raise InputError(f"the {name} {what}", got=source.name, fix=f"pass it again: {again}")


def _opened(name: str, told: Manifest, known: Known, beside: Path, given: Any) -> Given[Any]:
    """Return an input of the run, opened, after a look at its fingerprint."""
    source = told.inputs[name]
    if given is None:
        given = source.name if source.kind == EMBEDDED else _located(name, Path(source.name), beside)
        if is_code(str(given)):
            raise InputError(f"the {name} is said to be data and names code", got=source.name, fix="trust no such file")
    module, _, function = known.openers[name].partition(":")
    open_it = getattr(importlib.import_module(module), function)
    if source.kind == OBJECT and name not in _TAKE_CODE and isinstance(given, str) and is_code(given):
        with UserCode(given) as code:
            found = open_it(code())
    else:
        found = open_it(given)
    if found.source.fingerprint != source.fingerprint:
        raise InputError(
            f"the {name} is another one than in the run",
            expected=f"{source.name}, fingerprint {source.fingerprint}",
            got=f"{found.source.name}, fingerprint {found.source.fingerprint}",
            fix="pass the same one: its values and the text of your own code in it count",
        )
    return found


def _located(name: str, path: Path, beside: Path) -> Path:
    """Return where an input file or folder is: where it was, or beside the manifest."""
    for one in (path, beside / path.name):
        if one.exists():
            return one
    raise StorageError(f"there is no {path}, nor {path.name} beside the manifest", fix=f"pass it again: {name}=...")


def _compared(told: Manifest, folder: Path, outcome: WorkflowOutcome, tolerance: float) -> Reproduction:
    rows: list[tuple[str, str, str, float]] = []
    by_summary = 0
    for step in told.steps:
        result = outcome.results.get(step.name)
        now = {} if result is None else numbers_of(result)
        before = _numbers_before(folder / STEPS / f"{step.name}.nc", step.numbers)
        for name in dict.fromkeys([*step.numbers, *now]):
            verdict, difference = MISSING, np.nan
            if name in step.numbers and name in now:
                verdict, difference = _verdict(step.numbers[name], before.get(name), now[name], tolerance)
                by_summary += verdict != EQUAL and name not in before
            rows.append((step.name, f"{step.name}.{name}", verdict, difference))
    done = {step.name for step in told.steps}
    rows += [(name, name, MISSING, np.nan) for name in outcome.results if name not in done]
    steps, variables, verdicts, differences = zip(*rows, strict=True) if rows else ((), (), (), ())
    data = xr.Dataset(
        {
            "verdict": ("variable", list(verdicts)),
            "difference": ("variable", list(differences), {"long_name": "relative difference", "units": "1"}),
            "step": ("variable", list(steps)),
        },
        {"variable": list(variables)},
    )
    return Reproduction(
        data,
        "Reproduction of a run",
        attributes={"workflow": told.workflow, "started": told.started, "tolerance": tolerance},
        provenance=Provenance.record(arguments={"tolerance": tolerance, "seed": told.seed}),
        warnings=(
            *_compared_by_summary(by_summary, folder / STEPS),
            *_other_words(told, outcome),
            *_other_versions(told),
        ),
    )


def _other_words(told: Manifest, outcome: WorkflowOutcome) -> tuple[str, ...]:
    """Return where a step says something else in words: no verdict, as other roundings and versions do that too."""
    differing = []
    for step in told.steps:
        now = outcome.results[step.name].findings if step.name in outcome.results else step.findings
        pairs = zip_longest(step.findings, now, fillvalue="nothing")
        differing += [(step.name, *pair) for pair in pairs if pair[0] != pair[1]][:1]
    return tuple(
        f"the words of {name} are others than in the manifest, and words do not count for what is reproduced: "
        f"{_cut(before)!r} there, {_cut(now)!r} now"
        for name, before, now in differing
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}..."


def _compared_by_summary(n_variables: int, steps: Path) -> tuple[str, ...]:
    if not n_variables:
        return ()
    why = "does not hold the results of the run" if steps.is_dir() else "is missing"
    names = "1 variable that is not equal is" if n_variables == 1 else f"{n_variables} variables that are not equal are"
    return (
        f"{names} compared by summaries only (least, mean and most), because {steps} {why}: "
        "numbers that differ in places may pass for close",
    )


def _numbers_before(path: Path, known: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the numbers of the run, where its result lies beside the manifest and is the one it tells of."""
    try:
        found = numbers_of(load_result(path))
    except StorageError:
        return {}
    return {name: one for name, one in found.items() if described(one)["digest"] == known.get(name, {}).get("digest")}


def _verdict(
    told: Mapping[str, Any], before: np.ndarray | None, now: np.ndarray, tolerance: float
) -> tuple[str, float]:
    """Return how a variable compares: by its values where they are at hand, else by what the manifest tells of them."""
    about = described(now)
    if about["digest"] == told["digest"]:
        return EQUAL, 0.0
    if about["shape"] != told.get("shape") or now.dtype.kind not in "biufc":
        return DIFFERENT, np.nan
    names = [name for name in ("least", "mean", "most") if name in about and name in told]
    if before is None:
        before, now = (np.array([values[name] for name in names], dtype=float) for values in (told, about))
    difference = _difference(before, now)
    return (CLOSE if difference <= tolerance else DIFFERENT), difference


def _difference(before: np.ndarray, now: np.ndarray) -> float:
    """Return the largest difference of two arrays, relative to the largest value; infinite where gaps differ."""
    before, now = (one.astype(np.complex128) for one in (before, now))
    finite = np.isfinite(before)
    if not finite.any() or (finite != np.isfinite(now)).any():
        return np.inf
    size = np.abs(before[finite]).max()
    apart = float(np.abs(before - now)[finite].max())
    return apart / float(size) if size else (np.inf if apart else 0.0)


def _other_versions(told: Manifest) -> tuple[str, ...]:
    here = package_versions()
    names = sorted(set(told.versions) & set(here))
    return tuple(
        f"another version of {name}: {told.versions[name]} then, {here[name]} now"
        for name in names
        if told.versions[name] != here[name]
    )
