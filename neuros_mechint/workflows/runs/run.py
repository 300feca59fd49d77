"""A run of a workflow: named steps, each kept as soon as it is finished, and a report and a manifest at the end."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neuros_mechint.core.composite import CompositeResult
from neuros_mechint.core.errors import InputError, NeurosMechintError, StorageError
from neuros_mechint.core.paths import path_to_write
from neuros_mechint.core.provenance import package_versions
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result, load_result
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.runs.folder import STEPS, RunFolder
from neuros_mechint.workflows.runs.in_short import IN_SHORT
from neuros_mechint.workflows.runs.manifest import (
    Manifest,
    Page,
    StepRecord,
    check_step_name,
    describe_numbers,
    read_manifest,
)
from neuros_mechint.workflows.runs.repeating import how_to_repeat
from neuros_mechint.workflows.runs.sources import Source, file_hash

REPORT = "report.html"
"""Name of the page in the folder of a run."""

Kept = TypeVar("Kept")


@dataclass(frozen=True, repr=False)
class WorkflowOutcome:
    """What a workflow found.

    Parameters
    ----------
    results : mapping of str to Result
        By step, each of the class that its method returns.
    manifest : Manifest
        What the run was made of, and how it is shown.
    folder : pathlib.Path or None
        With ``report.html``, ``manifest.json`` and the results in ``steps``.
    """

    results: Mapping[str, Any]
    manifest: Manifest
    folder: Path | None

    @property
    def title(self) -> str:
        """Title of its report."""
        return self.manifest.page.title

    @property
    def subtitle(self) -> str:
        """What stands under the title."""
        return self.manifest.page.subtitle

    @property
    def left_out(self) -> dict[str, str]:
        """Steps that do not apply, and why."""
        return {step.name: step.left_out for step in self.manifest.steps if step.left_out}

    @property
    def captions(self) -> Mapping[str, str]:
        """What to see in the figure of each step."""
        return self.manifest.page.captions

    @property
    def shown(self) -> tuple[str, ...]:
        """Steps that the report shows."""
        return self.manifest.page.shown

    @cached_property
    def report(self) -> Report:
        """All of it as a page."""
        return self.add_to(Report(self.title, self.subtitle))

    def add_to(self, report: Report) -> Report:
        """Add to a page what this run shows, what it left out, and how it is repeated."""
        for name in self.shown:
            report.add(self.results[name], caption=self.captions.get(name))
        if self.left_out:
            lines = [f"- **{name.replace('_', ' ')}**: {reason}" for name, reason in self.left_out.items()]
            report.add_text("\n".join(lines), "What was left out, and why")
        if self.folder is not None:
            again = how_to_repeat(self.manifest, self.folder)
            told = f"In the folder where this page was made, this repeats the run and compares:\n\n`{again.command}`"
            report.add_text(f"{told}\n\n{again.to_fill_in}", "To repeat this")
        return report

    @property
    def path(self) -> Path:
        """The saved report.

        Raises
        ------
        InputError
            The run has no folder.
        """
        if self.folder is None:
            raise InputError("this run has no folder, so its report was not saved", fix="outcome.report.save(path)")
        return self.folder / REPORT

    def summary(self) -> str:
        """Return what was found, as plain text."""
        told = [self.results[name].summary() for name in self.shown]
        told += [f"left out: {name.replace('_', ' ')}: {reason}" for name, reason in self.left_out.items()]
        return "\n\n".join([self.title, *told])

    def __repr__(self) -> str:
        """Return the workflow, its steps and its folder."""
        where = "" if self.folder is None else f" in {self.folder}"
        return f"<WorkflowOutcome {self.manifest.workflow!r}: {', '.join(self.results)}{where}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()  # pyright: ignore[reportPrivateUsage]


def read_outcome(folder: str | Path) -> WorkflowOutcome:
    """Return what a run found, from its folder.

    Parameters
    ----------
    folder : str or pathlib.Path

    Returns
    -------
    WorkflowOutcome

    Raises
    ------
    StorageError
        No manifest, or a file that is missing or damaged.

    Examples
    --------
    >>> read_outcome("no_such_run")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.StorageError: there is no manifest no_such_run
      to fix:   pass the manifest.json of a folder that a workflow wrote
    """
    manifest, folder = read_manifest(folder), Path(folder)
    names = [step.name for step in manifest.steps if not step.left_out]
    return WorkflowOutcome({name: load_result(folder / STEPS / f"{name}.nc") for name in names}, manifest, folder)


class WorkflowRun:
    """A run of a workflow: its steps one after the other, then its report.

    With a folder, what a step found is written there as soon as it is done. The same run, started again after it was
    cut off, loads these steps and goes on. A run that is refused before it has found anything leaves no folder.

    Parameters
    ----------
    workflow : str
        As `neuros_mechint.workflows.runs.reproduce` knows it.
    arguments : mapping
        All other arguments of the workflow, which JSON can hold.
    inputs : mapping of str to Source
        Where models and data came from, by the name of the argument.
    seed : int or numpy.random.Generator
        An integer where there is a folder.
    folder : str or pathlib.Path, optional
        Of this run: empty, new, or that of the same run, cut off or not; ``~`` is the home folder.
    progress : bool
        Tell which step is at work, on a terminal or in a notebook; elsewhere in the log of this module (``INFO``).

    Raises
    ------
    StorageError
        A folder that holds something else, or another run; the error says what differs. A name that none can have.
    InputError
        Arguments that cannot be stored, or a generator together with a folder.

    Examples
    --------
    >>> import xarray as xr
    >>> run = WorkflowRun("example", {"n_trials": 3}, {}, progress=False)
    >>> scores = run.step("scores", lambda: Result(xr.Dataset({"score": ("trial", [1.0, 2.0, 4.0])}), "Scores"))
    >>> run.finish("An example")
    <WorkflowOutcome 'example': scores>
    """

    def __init__(
        self,
        workflow: str,
        arguments: Mapping[str, Any],
        inputs: Mapping[str, Source],
        seed: SeedLike = 0,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        numbers = generator(seed)
        if folder is not None and isinstance(seed, np.random.Generator):
            raise InputError("a run in a folder can be repeated, and a generator cannot", fix="pass an integer seed")
        self.progress = progress
        self.folder = None if folder is None else path_to_write(folder)
        self.results: dict[str, Result] = {}
        self.left_out: dict[str, str] = {}
        self.manifest = Manifest.begin(workflow, arguments, inputs, seed)
        self.entropy = int(numbers.integers(2**62))
        self._place = None if self.folder is None else RunFolder(self.folder)
        self._at_work = False
        self._earlier = self._steps_before()

    def seed(self, step: str) -> int:
        """Return a seed for a step of this name: a step that is loaded must not change the numbers of the next."""
        return int.from_bytes(hashlib.sha256(f"{self.entropy} {step}".encode()).digest()[:6])

    def step(self, name: str, compute: Callable[[], Result]) -> Result:
        """Do a step, or load what it found before.

        Parameters
        ----------
        name : str
            Lower-case letters, digits and underscores.
        compute : callable
            Returns the result. Warnings that it gives are kept with it.

        Returns
        -------
        Result
        """
        return self.keeping_step(name, lambda: (compute(), None), _save_nothing, _load_nothing)[0]

    def keeping_step(
        self,
        name: str,
        compute: Callable[[], tuple[Result, Kept]],
        save: Callable[[Kept, Path], object],
        load: Callable[[Path], Kept],
    ) -> tuple[Result, Kept]:
        """Do a step that makes something which later steps need and which is no result, such as a trained network.

        Parameters
        ----------
        name, compute
            As for `step`; ``compute()`` returns the result and the thing.
        save : callable
            ``save(thing, folder)`` writes files into an empty folder, without pickle.
        load : callable
            ``load(folder)`` returns the thing again.

        Returns
        -------
        tuple of Result and object
        """
        if check_step_name(name) in (*self.results, *self.left_out):
            raise InputError(f"this run has a step {name!r} already")
        self._begin()
        found = self._restored(name, load)
        if found is None:
            self._tell(name, " ...")
            try:
                found = self._computed(name, compute, save)
            except BaseException as error:  # Ctrl-C too
                self._stop(name, error)
                raise
        else:
            self._tell(name, ": done before")
            self._record(self._earlier[name])
        self.results[name] = found[0]
        return found

    def attempt(self, name: str, compute: Callable[[], Result]) -> Result | None:
        """Do a step that may not apply: an error of this package leaves it out and becomes the reason in the report."""
        try:
            return self.step(name, compute)
        except StorageError:
            raise
        except NeurosMechintError as error:
            self.leave_out(name, "; ".join(" ".join(line.split()) for line in str(error).splitlines()))
            return None

    def leave_out(self, name: str, reason: str) -> None:
        """Leave a step out, and say why in the report."""
        self._begin()
        self.left_out[check_step_name(name)] = reason
        self._record(StepRecord(name, left_out=reason))

    def finish(
        self,
        title: str,
        subtitle: str = "",
        captions: Mapping[str, str] | None = None,
        shown: Sequence[str] | None = None,
    ) -> WorkflowOutcome:
        """Write the report and the manifest.

        Parameters
        ----------
        title, subtitle : str
            Of the report.
        captions : mapping of str to str, optional
            By step: what to see in its figure.
        shown : sequence of str, optional
            Steps to show, in this order; by default all, what was found in short before how.

        Returns
        -------
        WorkflowOutcome
        """
        self._begin()
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        order = sorted(self.results, key=lambda name: name != IN_SHORT) if shown is None else shown
        page = Page(title, subtitle, dict(captions or {}), tuple(order))
        self.manifest = replace(self.manifest, finished=finished, versions=package_versions(), page=page)
        outcome = WorkflowOutcome(dict(self.results), self.manifest, self.folder)
        if self.folder is not None:
            outcome.report.save(outcome.path)
            self.manifest.write(self.folder)
        if self._place is not None:
            self._place.release()
        return outcome

    # -- the folder ------------------------------------------------------------------------------------------------

    def _steps_before(self) -> dict[str, StepRecord]:
        """Return the steps that the same run has finished in the folder."""
        found = None if self._place is None else self._place.earlier(self.manifest)
        if found is None:
            return {}
        self.manifest = replace(self.manifest, started=found.started)
        return {step.name: step for step in found.steps}

    def _begin(self) -> None:
        """Make the folder that of this run, before its first step."""
        if self._place is None or self._at_work:
            return
        self._place.begin()
        self._at_work = True
        self._earlier = self._steps_before()  # once more: nobody else writes from now on
        if not self._earlier:
            self.manifest.write(self._place.path)

    def _stop(self, name: str, error: BaseException) -> None:
        """Leave the folder as it was where there is nothing to keep, or else say in it where the run stopped."""
        if self._place is None:
            return
        if self.manifest.steps or self._earlier:
            self._place.tell_stop(name, error)
        else:
            self._place.leave()
            self._at_work = False

    def _restored(self, name: str, load: Callable[[Path], Kept]) -> tuple[Result, Kept] | None:
        """Return what a step found before, or None where it must be done."""
        record = self._earlier.get(name)
        if record is None or record.left_out or self.folder is None:
            return None
        try:
            changed = [one for one, known in record.files.items() if file_hash(self.folder / one) != known]
            if changed:
                raise StorageError(f"{', '.join(changed)} changed after it was written")
            return load_result(self._file(name)), load(self._file(name).with_suffix(""))
        except OSError as error:  # StorageError is one
            text = f"the step {name!r} in {self.folder} is damaged and is done again: {str(error).splitlines()[0]}"
            warnings.warn(text, UserWarning, stacklevel=4)
            return None

    def _computed(
        self, name: str, compute: Callable[[], tuple[Result, Kept]], save: Callable[[Kept, Path], object]
    ) -> tuple[Result, Kept]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, kept = compute()
        result = _with_warnings(result, caught)
        files = {} if self.folder is None else self._written(name, result, lambda beside: save(kept, beside))
        self._record(StepRecord(name, describe_numbers(result), result.findings, files))
        return result, kept

    def _written(self, name: str, result: Result, save: Callable[[Path], object]) -> dict[str, str]:
        """Write what a step found, and return its files with their hashes."""
        assert self.folder is not None
        beside = self._file(name).with_suffix("")
        try:
            shutil.rmtree(beside, ignore_errors=True)  # what a damaged or unfinished step has left
            beside.mkdir(parents=True)
            save(beside)
            written = sorted(path for path in beside.rglob("*") if path.is_file())
            if not written:
                beside.rmdir()
            written.append(result.save(self._file(name)))
            return {path.relative_to(self.folder).as_posix(): file_hash(path) for path in written}
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"cannot write {beside}", got=error, fix="check the folder and the space") from error

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / STEPS / f"{name}.nc"

    def _record(self, step: StepRecord) -> None:
        self.manifest = replace(self.manifest, steps=(*self.manifest.steps, step))
        if self.folder is not None:
            # what an earlier run has finished beyond this step stays known, should this one be cut off
            known = {one.name for one in self.manifest.steps}
            later = tuple(one for one in self._earlier.values() if one.name not in known)
            replace(self.manifest, steps=(*self.manifest.steps, *later)).write(self.folder)
        if self._place is not None:
            self._place.goes_on()

    def _tell(self, name: str, how: str) -> None:
        if not self.progress:
            return
        number = len(self.results) + len(self.left_out) + 1
        text = f"{self.manifest.workflow}: step {number}, {name}{how}".replace("_", " ")
        if sys.stderr.isatty() or "ipykernel" in sys.modules:
            sys.stderr.write(f"{text}\n")
        else:
            logging.getLogger(__name__).info(text)


def _with_warnings(result: Result, caught: list[warnings.WarningMessage]) -> Result:
    """Return a result with what was said while it was made; warnings to programmers go on to them."""
    said: list[str] = []
    for one in caught:
        if issubclass(one.category, (UserWarning, RuntimeWarning)):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    parts = result.parts.values() if isinstance(result, CompositeResult) else ()
    known = {text for one in (result, *parts) for text in one.warnings}
    new = [text for text in dict.fromkeys(said) if text not in known]
    return replace(result, warnings=(*result.warnings, *new)) if new else result


def _save_nothing(thing: None, folder: Path) -> None:
    """Of a step that keeps nothing but its result."""


def _load_nothing(folder: Path) -> None:
    """Of a step that keeps nothing but its result."""
