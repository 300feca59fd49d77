"""Where the files of a store lie: a folder of this machine, or a place behind a URL such as ``s3://bucket/acts.zarr``."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.request import url2pathname

from filelock import FileLock

from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.labels import format_bytes

Location = str | PathLike[str]


class Folder(Protocol):
    """What a store does with files. Errors of the place are `OSError`, as those of this machine are."""

    zarr: str
    """What zarr opens."""

    @property
    def path(self) -> Path | str:
        """Path or URL."""
        ...

    def __truediv__(self, name: str) -> Self:
        """Return a folder in this one."""
        ...

    def state(self) -> str:
        """Return "nothing", "a file", "an empty folder" or "a folder"."""
        ...

    def holds(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        ...

    def names(self, start: str) -> list[str]:
        """Return the files whose name starts so."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Exchange a file in one step."""
        ...

    def extend(self, name: str, held: int, content: bytes) -> None:
        """Write behind the first ``held`` bytes of a file, which stay there whatever happens."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file that may be there."""
        ...

    def remove_drafts(self) -> None:
        """Remove files, here and below, that an interruption left half-written."""
        ...

    def require_space(self, n_bytes: int) -> None:
        """Raise `StorageError` unless so much fits."""
        ...

    @contextmanager
    def appearing(self) -> Generator[Self]:
        """Lend the folder to fill, which is there when the block ends without an error."""
        ...

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep other writers waiting, where the place can."""
        ...


def folder_at(location: Location) -> Folder:
    """Return the folder at a path, or behind a URL that fsspec knows.

    Examples
    --------
    >>> folder_at("acts.zarr").path, (folder_at("memory://acts.zarr") / "embed").path
    (...Path('acts.zarr'), 'memory://acts.zarr/embed')
    """
    text = fspath(location)
    if text.startswith("file://") and "::" not in text:
        return LocalFolder(Path(url2pathname(text.removeprefix("file://"))))
    return RemoteFolder(text) if "://" in text else LocalFolder(Path(text))


class LocalFolder:
    """A folder of this machine; see `Folder`.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.zarr = str(path)

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.path / name)

    def state(self) -> str:
        """See `Folder`."""
        if not self.path.exists():
            return "nothing"
        if not self.path.is_dir():
            return "a file"
        return "a folder" if any(self.path.iterdir()) else "an empty folder"

    def holds(self, name: str) -> bool:
        """See `Folder`."""
        return (self.path / name).is_file()

    def names(self, start: str) -> list[str]:
        """See `Folder`."""
        return [one.name for one in self.path.glob(f"{start}*")]

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        return (self.path / name).read_bytes()

    def replace(self, name: str, content: bytes) -> None:
        """See `Folder`."""
        draft = self.path / f"{name}.partial"
        draft.write_bytes(content)
        draft.replace(self.path / name)

    def extend(self, name: str, held: int, content: bytes) -> None:
        """See `Folder`."""
        with (self.path / name).open("r+b" if held else "wb") as file:
            file.truncate(held)  # what lies behind is left over from an interrupted batch
            file.seek(0, 2)
            file.write(content)

    def remove(self, name: str) -> None:
        """See `Folder`."""
        (self.path / name).unlink(missing_ok=True)

    def remove_drafts(self) -> None:
        """See `Folder`."""
        for draft in self.path.rglob("*.partial"):
            draft.unlink(missing_ok=True)

    def require_space(self, n_bytes: int) -> None:
        """See `Folder`."""
        folder = next(one for one in (self.path.absolute(), *self.path.absolute().parents) if one.exists())
        free = shutil.disk_usage(folder).free
        if n_bytes > free:
            raise StorageError(
                f"the activations will not fit on the disk of {self.path}",
                expected=f"{format_bytes(n_bytes)} ({n_bytes} bytes) of free space",
                got=f"{format_bytes(free)} ({free} bytes)",
                fix="write to another disk, capture fewer sites or samples, or capture in half precision",
            )

    @contextmanager
    def appearing(self) -> Generator[Self]:
        """See `Folder`."""
        draft = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.partial")
        draft.mkdir(parents=True)
        yield type(self)(draft)
        if self.path.exists():
            self.path.rmdir()
        draft.rename(self.path)

    @contextmanager
    def alone(self) -> Generator[None]:
        """See `Folder`."""
        lock = FileLock(self.path / ".writing.lock")
        try:
            lock.acquire(poll_interval=0.01)
        except (OSError, NotImplementedError):  # some shared file systems have no locks
            yield
            return
        try:
            yield
        finally:
            lock.release()


class RemoteFolder:
    """A folder behind a URL; see `Folder`. Credentials are those fsspec finds in its settings or the environment.

    Object storage writes an object whole or not at all, so that nothing is left half-written; it has no locks.

    Parameters
    ----------
    path : str
        Also chained, such as ``"zip://acts.zarr::s3://bucket/acts.zip"``, to read.

    Raises
    ------
    StorageError
        A kind of URL that fsspec does not know, or whose library is not installed.
    """

    def __init__(self, path: str) -> None:
        from fsspec.core import url_to_fs

        self.path = path.rstrip("/")
        self.zarr = self.path
        try:
            self._system, self._root = url_to_fs(self.path)
        except (ValueError, ImportError, OSError) as error:
            raise StorageError(
                f"cannot reach {path}",
                expected="a path, or a URL that fsspec can open",
                got=str(error),
                fix="install what it asks for: s3fs for s3://, gcsfs for gs://",
            ) from error

    def __truediv__(self, name: str) -> Self:
        first, mark, rest = self.path.partition("::")
        return type(self)(f"{first.rstrip('/')}/{name}{mark}{rest}")

    def state(self) -> str:
        """See `Folder`."""
        self._system.invalidate_cache()
        if self._ask("isfile", self._root):
            return "a file"
        if not self._ask("exists", self._root):
            return "nothing"
        return "a folder" if self._ask("ls", self._root, detail=False) else "an empty folder"

    def holds(self, name: str) -> bool:
        """See `Folder`."""
        try:
            return bool(self._ask("info", self._of(name))["type"] == "file")  # isfile takes every error for a no
        except FileNotFoundError:
            return False

    def names(self, start: str) -> list[str]:
        """See `Folder`."""
        self._system.invalidate_cache()
        if not self._ask("exists", self._root):
            return []
        found = (str(one).rpartition("/")[2] for one in self._ask("ls", self._root, detail=False))
        return [name for name in found if name.startswith(start)]

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        return bytes(self._ask("cat_file", self._of(name)))

    def replace(self, name: str, content: bytes) -> None:
        """See `Folder`."""
        try:
            self._system.pipe_file(self._of(name), content)  # makes no bucket, whose name may be mistyped
        except FileNotFoundError as error:
            raise StorageError(
                f"nothing can be written to {self.path}, for it lies nowhere",
                expected="a bucket that is there",
                got=error,
                fix="make the bucket first, or check its name",
            ) from error
        except OSError:
            raise
        except Exception as error:  # each system refuses in its own way
            raise StorageError(
                f"nothing can be written to {self.path}",
                expected="a place whose files can be replaced, such as s3://, gs:// or a folder",
                got=f"{type(error).__name__}: {error}",
                fix="write to a folder and copy it there when it is finished",
            ) from error

    def extend(self, name: str, held: int, content: bytes) -> None:
        """See `Folder`."""
        before = self.read(name)[:held] if held else b""
        self.replace(name, before + content)

    def remove(self, name: str) -> None:
        """See `Folder`."""
        if self.holds(name):
            self._ask("rm_file", self._of(name))

    def remove_drafts(self) -> None:
        """See `Folder`."""

    def require_space(self, n_bytes: int) -> None:
        """See `Folder`."""

    @contextmanager
    def appearing(self) -> Generator[Self]:
        """See `Folder`."""
        self.replace(".writing", b"")  # refused now rather than by zarr, in its way
        self.remove(".writing")
        yield self

    @contextmanager
    def alone(self) -> Generator[None]:
        """See `Folder`."""
        yield

    def _of(self, name: str) -> Any:
        return f"{self._root.rstrip('/')}/{name}" if self._root else name

    def _ask(self, verb: str, *arguments: Any, **options: Any) -> Any:
        """Return what the system answers; what it raises that is no `OSError` becomes a `StorageError`."""
        try:
            return getattr(self._system, verb)(*arguments, **options)
        except OSError:
            raise
        except Exception as error:  # no address, no credentials: each system has errors of its own
            raise StorageError(
                f"cannot reach {self.path}",
                expected="a place that answers, and credentials for it in fsspec's settings or the environment",
                got=f"{type(error).__name__}: {error}",
                fix="for s3:// check AWS_ENDPOINT_URL, and AWS_PROFILE or AWS_ACCESS_KEY_ID",
            ) from error
