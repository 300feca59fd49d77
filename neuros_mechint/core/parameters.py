"""Parameters by name, as scikit-learn has them: what `__init__` takes is kept under the same names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any


class Parameterised:
    """An object that is made of the arguments of its ``__init__``, each kept as an attribute of that name."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; ``deep`` is scikit-learn's and changes nothing here."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    if not TYPE_CHECKING:  # type checkers would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            """Say of what `fit` makes that it is not there yet."""
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name.endswith("_") and not name.startswith("_"):
                text += ": it is made by fit(...), which was not called"
            raise AttributeError(text, name=name, obj=self)

    def __repr__(self) -> str:
        """Return the class with the parameters that are not the default."""
        defaults = inspect.signature(type(self)).parameters
        changed = {name: value for name, value in self.get_params().items() if value is not defaults[name].default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"
