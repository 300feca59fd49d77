"""Make a circuit as small as it can be without losing what it does."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuros_mechint.causal.circuits.discovery import circuit_result
from neuros_mechint.causal.circuits.judging import problem_of
from neuros_mechint.causal.circuits.results import Circuit
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance


def minimal_circuit(
    circuit: Circuit, model: Adapter, metric: Metric, clean: Any, corrupted: Any = None, bar: float = 0.9
) -> Circuit:
    """Remove edges one at a time, always the one that matters least, while the circuit stays faithful.

    No edge of the result can be left out alone: its faithfulness would be further from 1 than that of the bar. Other
    circuits as small may exist. Each round runs the circuit without each of its edges, so that the cost grows with
    the square of their number: start from a circuit of at most a few hundred.

    Parameters
    ----------
    circuit : Circuit
        From `discover_circuit`.
    model, metric
        As there.
    clean, corrupted : inputs of the model
        On which it has to stay faithful. They count as seen: `faithfulness` needs others.
    bar : float
        Least faithfulness, between 0 and 1; as far above 1 is allowed.

    Returns
    -------
    Circuit

    Raises
    ------
    InputError
        The circuit to start from does not reach the bar.
    OptionError, SiteError, CapabilityError

    References
    ----------
    Wang et al. 2022, Interpretability in the Wild, doi:10.48550/arXiv.2211.00593

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(nm.load_model("induction"))
    >>> clean = torch.tensor([[0, 17, 42, 8, 5, 23, 11, 17, 42, 8], [0, 9, 31, 2, 50, 7, 12, 9, 31, 2]])
    >>> corrupted = clean.clone()
    >>> corrupted[:, 3] = torch.tensor([30, 60])
    >>> inputs = nm.log_probability(torch.tensor([5, 50])), clean, corrupted
    >>> whole = nm.discover_circuit(model, *inputs, fraction=1.0)
    >>> minimal_circuit(whole, model, *inputs).size < 10 < whole.size
    True
    """
    bar = number("bar", bar, 0, 1, closed="neither")
    problem = problem_of(circuit, model, metric, clean, corrupted)
    kept, most = problem.connected(circuit.kept), 1 - bar
    restored = float(problem.faithfulness(problem.runner.values([kept]))[0])
    if abs(1 - restored) > most:
        raise InputError(
            "the circuit to start from is not faithful enough",
            expected=f"a faithfulness within {most:.3g} of 1",
            got=f"{restored:.4g}",
            fix="start from a larger circuit, or lower the bar",
        )
    for _ in progress_bar(range(int(kept.sum())), description="removing edges"):
        without = [problem.connected(kept & (np.arange(len(kept)) != part)) for part in np.flatnonzero(kept)]
        distance = np.abs(1 - problem.faithfulness(problem.runner.values(without))) if without else np.array([np.inf])
        best = int(distance.argmin())
        if distance[best] > most:
            break
        kept = without[best]
    settings = {
        "method": f"{circuit.attributes['method']}, then minimal",
        "scores": circuit.attributes["scores"],
        "ablation": circuit.attributes["ablation"],
        "bar": bar,
        "started_from": circuit.size,
        "dropped": 0,
    }
    provenance = Provenance.record(seed=None, model=model.fingerprint(), arguments=settings)
    earlier = circuit.attributes["discovery"]
    units = str(circuit.scores.attrs.get("units", ""))
    return circuit_result(problem, kept, circuit.scores.values, settings, provenance, units, earlier)
