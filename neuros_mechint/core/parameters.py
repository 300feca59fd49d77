"""Parameters by name, as scikit-learn has them: what `__init__` takes is kept under the same names."""

from __future__ import annotations

import inspect
from typing import Any


class Parameterised:
    """An object that is made of the arguments of its ``__init__``, each kept as an attribute of that name."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; ``deep`` is scikit-learn's and changes nothing here."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        """Return the class with the parameters that are not the default."""
        defaults = inspect.signature(type(self)).parameters
        changed = {name: value for name, value in self.get_params().items() if value is not defaults[name].default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"
