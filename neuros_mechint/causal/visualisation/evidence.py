"""What an optimum is compared with: the other starts, random stimuli, examples of a data set, real tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.visualisation.response import Response
from neuros_mechint.causal.visualisation.stimuli import Stimuli
from neuros_mechint.causal.visualisation.vocabulary import Vocabulary
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.labels import as_numpy

SAME_OPTIMUM = 0.9
"""Cosine above which two starts have found one optimum."""
_N_RANDOM = 100
_MIDDLE = 1e-3


def of_starts(
    response: Response, stimuli: Stimuli, found: torch.Tensor, values: torch.Tensor, trace: torch.Tensor
) -> xr.Dataset:
    """Return what each start has reached, the best first, and how alike that is."""
    place = response.place
    axes = place.samples_first[1:]
    directions = _directions(found, stimuli)
    similarity = as_numpy(directions @ directions.T)
    in_middle = np.diag(similarity) < 1 / 2
    similarity[np.ix_(in_middle, in_middle)] = 1
    gradient = response.gradient(found)
    data = xr.Dataset({"stimulus": (("start", *axes), as_numpy(found), {"long_name": "stimulus"})})
    data = data.assign_coords({axis: place.coords[axis] for axis in axes})
    _add(data, "activation", "start", values, "activation")
    data["similarity"] = (("start", "other_start"), similarity, {"long_name": "cosine between optima"})
    data["optimum"] = ("start", _groups(similarity), {"long_name": "which optimum, the most effective first"})
    _add(data, "slack", "start", stimuli.slack(found, gradient), "activation still to be gained, to first order")
    if stimuli.norm is not None:
        slope = stimuli.radial(found, gradient).sum(1)
        _add(data, "norm_slope", "start", slope, "activation gained per relative change of the norm")
    data["trace"] = (("start", "step"), as_numpy(trace), {"long_name": "activation during the ascent"})
    return data


def add_random(
    data: xr.Dataset,
    response: Response,
    stimuli: Stimuli,
    words: Vocabulary | None,
    best: torch.Tensor,
    source: torch.Generator,
) -> None:
    """Add the control: the response to random stimuli of the energy of the best one, or to random tokens."""
    if words is None:
        free = stimuli.draw(_N_RANDOM, source, response.place.values)
        random = stimuli.of_energy(free, stimuli.energy(best[None]))
    else:
        random = stimuli.rescaled(words.draw((_N_RANDOM, *best.shape[:-1]), source))
    _add(data, "random_activation", "random", response.values(random), "activation by a random stimulus")


def add_examples(data: xr.Dataset, response: Response, stimuli: Stimuli, best: torch.Tensor, examples: Any) -> None:
    """Add the response to a set of examples, as they are and at the norm of the optimum, and the best of them."""
    values, placed = response.to_inputs(examples)
    placed = placed.to(best)
    _add(data, "example_activation", "example", values, "activation by an example")
    if stimuli.norm is not None and not stimuli.by_row:
        values = response.values(stimuli.rescaled(placed))
        _add(data, "example_activation_rescaled", "example", values, "activation by an example brought to the norm")
    cosines = _directions(placed, stimuli) @ _directions(best[None], stimuli)[0]
    _add(data, "example_similarity", "example", cosines, "cosine of an example with the best optimum")
    top = int(values.argmax())
    shown = as_numpy(stimuli.rescaled(placed[[top]])[0])
    data["best_example"] = (data["stimulus"].dims[1:], shown, {"long_name": "most effective example"})
    data.attrs["best_example"] = top


def add_tokens(data: xr.Dataset, response: Response, words: Vocabulary, found: torch.Tensor) -> None:
    """Add the nearest tokens, and what the unit does when they are put in place of the optimum."""
    tokens, cosines = words.nearest(found)
    axes = data["stimulus"].dims[:-1]
    names = np.array(words.names(tokens)).reshape(tokens.shape)
    data["nearest_token"] = (axes, as_numpy(tokens), {"long_name": "nearest token"})
    data["nearest_token_text"] = (axes, names, {"long_name": "nearest token"})
    data["token_similarity"] = (axes, as_numpy(cosines), {"long_name": "cosine with the nearest token"})
    put_back = response.values(words.embeddings[tokens])
    _add(data, "token_activation", "start", put_back, "activation by the nearest tokens")


def _add(data: xr.Dataset, name: str, axis: str, values: torch.Tensor, long_name: str) -> None:
    data[name] = (axis, as_numpy(values.double()), {"long_name": long_name})


def _directions(values: torch.Tensor, stimuli: Stimuli) -> torch.Tensor:
    """Return stimuli as unit vectors from the centre, ``(n_stimuli, n_entries)``; of one in it, next to zero."""
    away = (values - stimuli.center).flatten(1).double()
    farthest = 0.0 if stimuli.norm is not None else (stimuli.bounds[1] - stimuli.center) * math.sqrt(away.shape[1])
    return torch.nn.functional.normalize(away, dim=1, eps=max(_MIDDLE * farthest, torch.finfo(away.dtype).tiny))


def _groups(similarity: Floats) -> np.ndarray:
    """Return the number of each start's optimum: that of the first, more effective start which it is like."""
    groups = np.full(len(similarity), -1)
    for start in range(len(similarity)):
        if groups[start] < 0:
            groups[(groups < 0) & (similarity[start] > SAME_OPTIMUM)] = groups.max() + 1
    return groups
