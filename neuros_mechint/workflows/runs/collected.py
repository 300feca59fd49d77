"""One page of what was saved: results, reports as JSON, and whole runs with their titles, captions and words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuros_mechint.core.errors import StorageError
from neuros_mechint.report.report import Report
from neuros_mechint.report.saved import SavedReport, read_report, read_run
from neuros_mechint.workflows.runs.manifest import MANIFEST, read_manifest
from neuros_mechint.workflows.runs.run import WorkflowOutcome, read_outcome


def collected(paths: Sequence[Path], title: str | None = None) -> Report:
    """Return a page of saved results.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Files written by ``Result.save``, folders of them or of workflows, or reports saved as ``.json``.
    title : str, optional
        By default that of the run or report, where there is one; of several each title stands before its results.

    Returns
    -------
    Report

    Raises
    ------
    InputError, StorageError
        See `neuros_mechint.report.saved.read_run`.
    """
    alone = _told(paths[0]) if len(paths) == 1 else None
    if alone is not None:
        return _added(Report(title or alone.title, alone.subtitle), alone)
    page = Report(title or "Results")
    for path in paths:
        told = _told(path)
        if told is not None:
            _added(page.add_text(told.subtitle, told.title), told)
            continue
        for result in read_run(path).values():
            page.add(result)
    return page


def _told(path: Path) -> WorkflowOutcome | SavedReport | None:
    """Return what has a title and captions of its own: a finished run, or a report."""
    if path.suffix == ".json" and path.is_file():
        return read_report(path)
    try:
        finished = (path / MANIFEST).is_file() and read_manifest(path).finished
    except StorageError:  # that of another program, or damaged: results beside it are checked by themselves
        return None
    return read_outcome(path) if finished else None


def _added(page: Report, told: WorkflowOutcome | SavedReport) -> Report:
    if isinstance(told, WorkflowOutcome):
        return told.add_to(page)
    known = 0  # sections that were added already, as parts of a result
    for section in told.sections:
        if known:
            known -= 1
            continue
        before = len(page.sections)
        for name, result in section.named():
            page.add(result, name, section.caption)
        if section.text:
            page.add_text(section.text, section.title)
        known = max(0, len(page.sections) - before - max(1, len(section.results)))
    return page
