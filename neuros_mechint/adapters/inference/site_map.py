"""What site inference found."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuros_mechint.adapters.taps import Tap


@dataclass(frozen=True)
class SiteMap:
    """Canonical sites of a module.

    Parameters
    ----------
    taps : dict of str to Tap
        Proven sites by canonical name, in order of execution; ``tap.check`` says what proved each.
    withheld : dict of str to str
        Names that could not be proven, with the reason. ``"blocks.*"`` or ``"*"`` stands for all of them.
    """

    taps: dict[str, Tap] = field(default_factory=dict[str, Tap])
    withheld: dict[str, str] = field(default_factory=dict[str, str])
