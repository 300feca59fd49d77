"""What the conformance kit returns: one line per check."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """One check.

    Parameters
    ----------
    check : str
        What was checked.
    passed : bool or None
        ``None`` where the check does not apply to this kind of model.
    detail : str
        What was compared, what was wrong, or why it does not apply.
    """

    check: str
    passed: bool | None
    detail: str

    @property
    def mark(self) -> str:
        """The outcome in one word."""
        return {True: "ok", False: "FAILED", None: "-"}[self.passed]


@dataclass(frozen=True, repr=False)
class ConformanceReport:
    """Outcomes of all checks on one adapter.

    Parameters
    ----------
    subject : str
        The adapter.
    outcomes : tuple of Outcome
        In the order in which they were checked.

    Examples
    --------
    >>> report = ConformanceReport("MyAdapter", (Outcome("sites can be read", False, "site 'h' is missing"),))
    >>> report
    MyAdapter: 1 of 1 checks failed
      FAILED  sites can be read  site 'h' is missing
    >>> report.passed
    False
    """

    subject: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed and at least one applied."""
        return not self.failures and any(outcome.passed for outcome in self.outcomes)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The checks that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.passed is False)

    def assert_passed(self) -> None:
        """Raise ``AssertionError`` with the whole table unless every check passed: the one line of a plug-in's test."""
        if not self.passed:
            raise AssertionError(repr(self))

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame with columns ``check``, ``passed`` and ``detail``."""
        import pandas as pd

        rows = [(outcome.check, outcome.passed, outcome.detail) for outcome in self.outcomes]
        return pd.DataFrame(rows, columns=["check", "passed", "detail"])

    @property
    def _heading(self) -> str:
        applied = sum(outcome.passed is not None for outcome in self.outcomes)
        verdict = f"{len(self.failures)} of {applied} checks failed" if self.failures else f"{applied} checks passed"
        return f"{self.subject}: {verdict}"

    def __repr__(self) -> str:
        width = max((len(outcome.check) for outcome in self.outcomes), default=0)
        lines = [f"  {o.mark:<6}  {o.check:<{width}}  {o.detail}".rstrip() for o in self.outcomes]
        return "\n".join([self._heading, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{o.mark}</td><td>{html.escape(o.check)}</td><td>{html.escape(o.detail)}</td></tr>"
            for o in self.outcomes
        )
        head = "<tr><th></th><th>check</th><th>detail</th></tr>"
        return f"<p><b>{html.escape(self._heading)}</b></p><table>{head}{rows}</table>"
