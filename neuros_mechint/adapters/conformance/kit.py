"""The conformance kit: what every adapter must do, checked on a model of yours in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from neuros_mechint.adapters.conformance import dynamics, editing, reading
from neuros_mechint.adapters.conformance.probe import ConformanceError, NotApplicableError, Oracle, Probe
from neuros_mechint.adapters.conformance.report import ConformanceReport, Outcome
from neuros_mechint.core.adapter import Adapter


@dataclass(frozen=True)
class _Check:
    """One check, the capabilities it needs, and whether the others make sense when it fails."""

    title: str
    function: Callable[[Probe], str]
    needs: frozenset[str] = field(default_factory=frozenset[str])
    essential: bool = False


_INTERVENE = frozenset({"intervene"})
_CHECKS = (
    _Check("satisfies the protocol", reading.satisfies_protocol, essential=True),
    _Check("captures every site as stated", reading.captures_every_site, essential=True),
    _Check("lists sites in order", reading.table_is_ordered),
    _Check("captures the same alone and together", reading.capture_is_repeatable),
    _Check("captures the same in any batch size", reading.batch_size_changes_nothing),
    _Check("indices equal slices", reading.indices_are_slices),
    _Check("unknown names raise errors that teach", reading.unknown_names_teach),
    _Check("streams captures to disk", reading.streams_to_disk),
    _Check("fingerprint is stable", reading.fingerprint_is_stable),
    _Check("identity edits change nothing", editing.identity_changes_nothing, _INTERVENE),
    _Check("edits arrive", editing.edits_arrive, _INTERVENE),
    _Check("edits keep to their samples", editing.edits_keep_to_their_samples, _INTERVENE),
    _Check("edits do not depend on batch size", editing.edits_do_not_depend_on_batches, _INTERVENE),
    _Check("edits leave alone what came before", editing.edits_work_forward, _INTERVENE),
    _Check("bad edits are refused", editing.bad_edits_are_refused, _INTERVENE),
    _Check("an edit that raises leaves nothing", editing.raising_edits_leave_nothing, _INTERVENE),
    _Check("agrees with a run by hand", editing.agrees_with_oracle, _INTERVENE),
    _Check("gradients are derivatives", dynamics.gradients_are_derivatives, frozenset({"gradient", "intervene"})),
    _Check("steps follow captured states", dynamics.steps_follow_captures, frozenset({"step", "time"})),
    _Check("generates under edits", dynamics.generation_takes_edits, frozenset({"generate", "intervene"})),
    _Check("refuses what it cannot do", dynamics.missing_capabilities_are_named),
    _Check("leaves no trace", dynamics.leaves_no_trace),
)


def check_adapter(adapter: Adapter, inputs: Any, oracle: Oracle | None = None) -> ConformanceReport:
    """Check that an adapter does what every adapter must do.

    Parameters
    ----------
    adapter : Adapter
        On a small model: some hundred runs are made.
    inputs : object
        What the model takes; at least two samples, three are better.
    oracle : callable, optional
        An independent way to run the same model: ``oracle(site, change) -> (value, output)`` returns the activation
        at ``site`` and the output when that activation is replaced by ``change(activation)``; ``change`` is
        ``None`` for a run without edits. It raises `LookupError` on sites it does not know.

    Returns
    -------
    ConformanceReport
        ``.passed``, ``.failures``, and ``.assert_passed()`` for a test.

    Notes
    -----
    Values must agree to ``eps ** (2/3)`` of the largest one, where ``eps`` is the rounding unit of their type.

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> from neuros_mechint.adapters.registry import adapt
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    >>> check_adapter(adapt(model), torch.eye(3)).passed
    True
    """
    probe = Probe(adapter, inputs, oracle)
    outcomes: list[Outcome] = []
    for check in _CHECKS:
        outcome = _outcome(check, probe)
        outcomes.append(outcome)
        if check.essential and not outcome.passed:
            break
    return ConformanceReport(repr(adapter), tuple(outcomes))


def _outcome(check: _Check, probe: Probe) -> Outcome:
    missing = check.needs - set(getattr(probe.adapter, "capabilities", ()))
    if missing:
        return Outcome(check.title, None, f"no {', '.join(sorted(missing))}")
    try:
        return Outcome(check.title, True, check.function(probe))
    except NotApplicableError as reason:
        return Outcome(check.title, None, str(reason))
    except ConformanceError as failure:
        return Outcome(check.title, False, str(failure))
    except Exception as error:  # whatever an adapter raises is a finding, not a crash of the kit
        return Outcome(check.title, False, f"raised {type(error).__name__}: {error}")
