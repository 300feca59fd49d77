"""A function of the user's own Python file, run as Python runs a file: with what lies beside it to import from."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from neuros_mechint.core.errors import InputError, MissingDependencyError, NeurosMechintError, near_names
from neuros_mechint.workflows.runs.identity import INSTALLED
from neuros_mechint.workflows.runs.surroundings import Surroundings

_OWN = __name__.partition(".")[0]
_KEPT = {*sys.stdlib_module_names, _OWN, "__main__"}
# what is at work while the user's code is: another module in its place would break it from inside
_LIBRARIES = {
    *("brian2", "cloudpickle", "filelock", "fsspec", "h5netcdf", "h5py", "jinja2", "joblib", "lazy_loader"),
    *("matplotlib", "networkx", "nnsight", "nolds", "numpy", "pandas", "pooch", "rsatoolbox", "sae_lens"),
    *("safetensors", "scipy", "sklearn", "torch", "tqdm", "transformer_lens", "transformers", "typer", "xarray"),
    "zarr",
}


class UserCode:
    """A function of the user's own Python file, and what the file imports from its own folder.

    The file is run. While it is, within a ``with`` block, and while the function is called, modules can be imported
    from the folder of the file, before those of the same name from elsewhere. Between, ``sys.path`` and ``sys.modules``
    are the caller's, so that two files with neighbours of the same name each keep their own. So are the working folder,
    the global random generators, and the floating type and gradient mode of PyTorch, which go on in here where the
    file has left them.

    Parameters
    ----------
    name : str
        ``file.py:function``.

    Attributes
    ----------
    function : callable
        As the file defines it.

    Raises
    ------
    InputError
        No such file or function; a model in the place of a function; text that is no Python; a file beside it that has
        the name of a library; code that ends the program; other arguments than those of the function; an import that
        fails though the module is there.
    MissingDependencyError
        The file, or the function when it is called, imports what is not there.
    """

    def __init__(self, name: str) -> None:
        path, _, function = name.rpartition(":")
        if not Path(path).is_file():
            raise InputError(f"there is no file {path}", expected="file.py:function", got=name)
        self._file = Path(path).resolve()
        self._folder = self._file.parent
        self._packages = {one.name for one in pkgutil.iter_modules([str(self._folder)])} - _KEPT
        self._folders = {one.name for one in self._folder.iterdir() if one.is_dir()} - _KEPT
        self._own: dict[str, ModuleType] = {}
        self._aside: dict[str, ModuleType] = {}
        self._before: set[str] = set()
        self._callers = Surroundings.now()
        self._surroundings: Surroundings | None = None
        self._depth = 0
        self._check_names()
        importlib.invalidate_caches()  # files that were written just now
        self.function = self._loaded(function)

    def __enter__(self) -> UserCode:
        """Make the folder of the file one to import from."""
        self._depth += 1
        if self._depth == 1:
            tops = {_top(name) for name in sys.modules}
            giving_way = {name for name in tops if self._gives_way(name)}
            self._aside = {name: sys.modules.pop(name) for name in [*sys.modules] if _top(name) in giving_way}
            self._before = tops - giving_way
            sys.modules.update(self._own)
            sys.path.insert(0, str(self._folder))
            self._callers = Surroundings.now()
            if self._surroundings is not None:
                self._surroundings.put_back()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the caller's modules and path back. What the user's code did to the path itself stays."""
        self._depth -= 1
        if self._depth:
            return
        self._surroundings = Surroundings.now()
        self._callers.put_back()
        if str(self._folder) in sys.path:
            sys.path.remove(str(self._folder))
        new = {_top(name) for name in sys.modules} - self._before
        beside = {name for name in new if self._is_beside(sys.modules.get(name))}
        self._own |= {name: sys.modules.pop(name) for name in [*sys.modules] if _top(name) in beside}
        sys.modules.update(self._aside)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        self._check_takes(arguments)
        return self._importing(self.function, *arguments)

    def _check_takes(self, arguments: tuple[Any, ...]) -> None:
        try:
            signature = inspect.signature(self.function)
        except (ValueError, TypeError):  # of a function in C, which tells nothing of its arguments
            return
        try:
            signature.bind(*arguments)
        except TypeError as error:
            n, name = len(arguments), getattr(self.function, "__name__", "the function")
            raise InputError(
                f"{name} in {self._file} is called with {f'{n} argument' if n else 'no arguments'}: {error}",
                expected=f"a function that takes {f'{n} argument' if n else 'no arguments'}",
                got=f"{name}{signature}",
            ) from error

    def _loaded(self, function: str) -> Callable[..., Any]:
        # under the name that it has where it is imported, so that what it defines is the same from there
        name = self._file.stem.replace(".", "_")
        name = f"_{_OWN}_user_{name}" if _is_taken(name) else name
        spec = importlib.util.spec_from_file_location(name, self._file)
        assert spec is not None  # the suffix is .py
        assert spec.loader is not None
        self._own[name] = module = importlib.util.module_from_spec(spec)
        self._importing(spec.loader.exec_module, module)
        found = getattr(module, function, None)
        if isinstance(found, nn.Module):
            raise InputError(
                f"{function!r} of {self._file} is a model, not a function that builds one",
                expected="file.py:function",
                fix=f"write def build(): return {function}, and give {self._file.name}:build",
            )
        if not callable(found):
            raise InputError(
                f"{self._file} has no function {function!r}",
                expected="file.py:function",
                got=f"{self._file}:{function}",
            )
        return found

    def _importing(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with self:
                return call(*arguments)
        except ImportError as error:
            told = self._told(error)
            if told is None:
                raise
            raise told from error
        except SyntaxError as error:
            if self._folder not in Path(error.filename or "").parents:  # of what the user's code reads itself
                raise
            raise InputError(
                f"{error.filename}, line {error.lineno}, is not Python",
                got=error.msg,
                fix="save the file as UTF-8" if "codec" in str(error.msg) else "run the file by itself, and correct it",
            ) from error
        except SystemExit as error:
            own = self._own_frames(_frames(error))
            raise InputError(
                f"the code of {self._file} ended the program"
                + (f": {own[-1].line} in {own[-1].filename}, line {own[-1].lineno}" if own else ""),
                got=f"SystemExit: {error.code}",
                fix="put what is only for running the file by itself under if __name__ == '__main__':",
            ) from error

    def _check_names(self) -> None:
        """Refuse a folder in which a library that is needed would be another file."""
        hidden = sorted(name for name in self._packages & _LIBRARIES if not self._is_beside(sys.modules.get(name)))
        if hidden:
            name = hidden[0] if (self._folder / hidden[0]).is_dir() else f"{hidden[0]}.py"
            raise InputError(
                f"{self._folder / name} has the name of the library {hidden[0]}, and would be imported in its place",
                fix=f"rename {name}",
            )

    def _gives_way(self, name: str) -> bool:
        """Return whether a module of the caller has a name that means another one in the folder."""
        module = sys.modules.get(name)
        if name in self._own:
            return True
        if name in self._packages:
            return not self._is_beside(module)
        # a folder without __init__.py comes last wherever it is
        is_folder = hasattr(module, "__path__") and getattr(module, "__file__", None) is None
        return name in self._folders and is_folder and not self._is_beside(module)

    def _is_beside(self, module: ModuleType | None) -> bool:
        file = getattr(module, "__file__", None)
        places = [*getattr(module, "__path__", [file] if file else [])]
        return any(Path(one).parent.resolve() == self._folder for one in places)

    def _told(self, error: ImportError) -> NeurosMechintError | None:
        """Return what an import of the user's file that fails says; None of what is not about that file's imports."""
        frames = _frames(error)
        own = self._own_frames(frames)
        if isinstance(error, NeurosMechintError) or not own:
            return None
        where = f"{own[-1].filename}, line {own[-1].lineno},"
        if isinstance(error, ModuleNotFoundError) and error.name:
            indirectly = "" if frames[-1] is own[-1] else "something that needs "
            return MissingDependencyError(
                f"{where} imports {indirectly}{error.name!r}, which is not there", **self._missing(error.name)
            )
        if frames[-1] is not own[-1]:  # an installed library, which has its own words
            return None
        fix = "correct the name, or install the version of the library that has it"
        if "relative import" in str(error):
            fix = "leave out the dot: the file is run by itself, and what lies beside it is imported by name"
        elif _top(error.name or "") in self._shadowed():
            fix = f"rename {error.name}.py: a module of Python itself has this name and comes first"
        return InputError(f"{where} cannot import", got=error, fix=fix)

    def _own_frames(self, frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
        return [
            one
            for one in frames
            if self._folder in Path(one.filename).parents and not one.filename.startswith(INSTALLED)
        ]

    def _missing(self, name: str) -> dict[str, str]:
        """Return what would have been right in the place of a module that is not there, and what to do."""
        top = _top(name)
        if top != name and (top in self._packages | self._folders or importlib.util.find_spec(top) is not None):
            return {
                "expected": f"a module {name}",
                "fix": f"correct the name, or look for the version of {top} that has it",
            }
        near = near_names(top, self._packages)
        return {
            "expected": f"an installed library, or {top}.py in {self._folder}",
            "fix": (f"did you mean {near[0]}? Or " if near else "")
            + f"python -m pip install {top}, or the library that brings it, if that is called otherwise",
        }

    def _shadowed(self) -> set[str]:
        return {path.stem for path in self._folder.glob("*.py")} & set(sys.stdlib_module_names)


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [one for one in traceback.extract_tb(error.__traceback__) if one.filename[0] != "<"]


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_taken(name: str) -> bool:
    """Return whether a name is that of an installed module, which the user's file must not stand in for."""
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    found = importlib.machinery.PathFinder.find_spec(name, places)
    return name in _KEPT or (found is not None and found.origin is not None)  # a mere folder stands for nothing
