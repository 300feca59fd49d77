"""The folder of a run: one run in it at a time, and as it was before where nothing came of the run."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from neuros_mechint.core.errors import NeurosMechintError, StorageError
from neuros_mechint.workflows.runs.manifest import MANIFEST, Manifest, read_manifest

STEPS, STOPPED = "steps", "stopped.txt"
"""Names of the results, and of what tells where a run that has steps to keep stopped, and why."""

_LOCK = ".run.lock"


class RunFolder:
    """The folder of a run, in which nothing is written before its first step begins.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None
        self._made: list[Path] = []

    def earlier(self, own: Manifest) -> Manifest | None:
        """Return the manifest of the same run, cut off or not, where the folder holds one with steps.

        Raises
        ------
        StorageError
            A folder that holds something else, or another run; the error says what differs.
        """
        steps, known = self.path / STEPS, (self.path / MANIFEST).exists()
        if not known and self.path.exists() and any(path.name[0] != "." for path in _entries(self.path)):
            raise StorageError(
                f"{self.path} holds other files",
                expected="a new or empty folder, or that of the same run",
                fix="choose another folder",
            )
        found = read_manifest(self.path) if known else None
        if found is not None and found.steps:  # one that was killed in its first step left nothing to keep
            _check_same_run(self.path, found, own)
        if steps.is_symlink():
            raise StorageError(f"{steps} is a link", expected="a folder: nothing is written elsewhere")
        return found if found is not None and found.steps else None

    def begin(self) -> None:
        """Make the folder and lock it, so that no other process works in it.

        Raises
        ------
        StorageError
            Another process does.
        """
        folders = [one for one in (self.path / STEPS, self.path, *self.path.parents) if not one.exists()]
        self._lock = _locked(self.path)
        self._made = folders
        for unfinished in (self.path / STEPS).glob(".*.nc.*"):  # of a run that was killed while it wrote
            unfinished.unlink()

    def release(self) -> None:
        """Let other runs in."""
        if self._lock is not None:
            self._lock.release(force=True)

    def leave(self) -> None:
        """Take away what this run made: it was refused before it had anything to keep."""
        with contextlib.suppress(OSError):
            (self.path / MANIFEST).unlink(missing_ok=True)
            if self.path / STEPS in self._made:
                shutil.rmtree(self.path / STEPS, ignore_errors=True)
        lock = self.path / _LOCK
        try:
            lock.unlink(missing_ok=True)
        except OSError:  # some systems keep a file that is open
            self.release()
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)
        else:
            self.release()  # a lock that is there from now on is that of another
        with contextlib.suppress(OSError):
            for folder in self._made:
                if folder.exists():
                    folder.rmdir()

    def tell_stop(self, step: str, error: BaseException) -> None:
        """Write where the run stopped, and why."""
        told = str(error) if isinstance(error, NeurosMechintError) else f"{type(error).__name__}: {error}"
        text = (
            f"The run stopped in the step {step!r}:\n\n{told}\n\n"
            f"The steps before it are kept in {STEPS}. Started again with this folder, the run goes on from there.\n"
        )
        with contextlib.suppress(OSError):  # a full disk is told by the error itself
            (self.path / STOPPED).write_text(text, encoding="utf-8", errors="replace")

    def goes_on(self) -> None:
        """Take back that the run stopped."""
        with contextlib.suppress(OSError):
            (self.path / STOPPED).unlink(missing_ok=True)


def _locked(folder: Path) -> FileLock | None:
    """Return the lock of a folder, which the system takes back from a process that dies; None where it has none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # one lock in a process: a run that failed there must not bar its repetition
        lock = FileLock(folder / _LOCK, thread_local=False, is_singleton=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"another process is at work in {folder}",
            expected="one run in a folder at a time",
            fix="wait until it is done, or choose another folder",
        ) from None
    except (OSError, NotImplementedError):  # some shared file systems have no locks
        return None
    return lock


def _check_same_run(folder: Path, found: Manifest, own: Manifest) -> None:
    before, now = found.identity, own.identity
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        raise StorageError(
            f"{folder} holds another run",
            expected="; ".join(f"{name} {before.get(name, 'none')}" for name in names),
            got="; ".join(f"{name} {now.get(name, 'none')}" for name in names),
            fix="choose another folder, or the arguments of that run",
        )


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise StorageError(f"{folder} is a file", expected="a folder", fix="choose another name")
    return list(folder.iterdir())
