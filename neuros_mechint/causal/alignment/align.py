"""Take parts out of a model, and see whether what is left is still like a region of the brain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.causal.alignment.components import ABLATIONS, Ablation, ablation_of, component_names, random_parts
from neuros_mechint.causal.alignment.results import CausalAlignment
from neuros_mechint.causal.alignment.scoring import Scorer, jackknife_interval, scorer
from neuros_mechint.causal.interventions import check_editable
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import SiteReference
from neuros_mechint.core.statistics.certainty import control_p
from neuros_mechint.core.statistics.p_values import CORRECTIONS, SIGNIFICANT, adjust_p
from neuros_mechint.neuro.alignment.layer_region_data import Region, in_order_of, regions_of, site_blocks
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel
from neuros_mechint.neuro.alignment.linear.estimator import with_fixed_seed
from neuros_mechint.neuro.alignment.linear.ridge import RidgeEncoding

_CITATIONS = ("heimersheim2024", "yamins2014", "phipson2010")
_FEWEST_STIMULI = 8
_Rows = dict[str, Floats]
"""Readout by region, in the order of its stimuli."""


class _Readout:
    """The readout of a model under edits, as matrices in the order of each region's stimuli."""

    def __init__(
        self,
        model: Adapter,
        inputs: Any,
        site: str,
        regions: list[Region],
        stimuli: Sequence[Any] | None,
        batch_size: int | None,
    ) -> None:
        self.model, self.inputs, self.site, self.regions = model, inputs, site, regions
        self.stimuli, self.batch_size = stimuli, batch_size

    def under(self, edits: Sequence[Edit]) -> _Rows:
        """Run the model once."""
        run = self.model.run(self.inputs, edits=list(edits), capture=self.site, batch_size=self.batch_size)
        names = list(run.activations)
        if len(names) != 1:
            raise InputError("the readout is not one site", expected="one name", got=names)
        site = next(site_blocks(run.activations, names, None, self.stimuli, None))[names[0]]
        return {region.name: in_order_of(region, names[0], site) for region in self.regions}


def causal_alignment(
    model: Adapter,
    inputs: Any,
    recording: Any,
    *,
    site: str,
    ablate: str | Sequence[str],
    region: str | None = None,
    stimuli: Sequence[Any] | None = None,
    method: Any = None,
    ablation: str = "mean",
    source: Any = None,
    n_controls: int = 19,
    cv: Any = 5,
    correction: str = "holm",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> CausalAlignment:
    """Return how the alignment of a readout with brain regions changes when parts of the model are taken out.

    Layers that resemble a region need not owe it to what one thinks: here a head, a unit or a feature is removed, the
    rest of the model runs on, and the readout is scored anew.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; with a dictionary spliced in (``model.with_sae``) its features can be taken out.
    inputs : inputs of the model
        One for each stimulus.
    recording : Recording, xarray.DataArray, array_like, or mapping of region to these
        ``(stimulus, unit)``; see `neuros_mechint.layer_region_map`.
    site : str
        The readout: ``"blocks.3.resid_post[position=-1]"``.
    ablate : str or sequence of str
        Parts: sites, patterns, or indexed names such as ``"blocks.1.z[head=2]"``, ``"layer1[unit=[0, 4]]"`` or
        ``"blocks.1.resid_post.sae.features[feature=3]"``.
    region : str, optional
        One region of the recording; all of them by default.
    stimuli : sequence, optional
        Label of each input, joined to the labels of the recording; by position only where neither has labels.
    method : estimator with ``score(X, Y)``
        Default: `RidgeEncoding()`. One whose ``score`` takes ``cv`` is scored on held-out stimuli, in the same folds
        for all parts.
    ablation : {"mean", "zero", "resample", "patch"}
        What takes the place of an activation: its mean over inputs, zero, that of another input (five draws, scores
        averaged), or that of the input of the same rank in ``source`` (an interchange).
    source : inputs of the model, optional
        Where means and other activations come from; ``inputs`` by default.
    n_controls : int
        Random parts of the same site and size to compare each part with, all there are where there are fewer.
    cv
        See `neuros_mechint.neuro.alignment.linear.held_out.folds`.
    correction : {"holm", "fdr", "none"}
        For the number of parts and regions.
    batch_size : int, optional
        Samples per call of the model.
    seed : int or numpy.random.Generator
        Deals stimuli to folds and to groups, and draws random parts and inputs.

    Returns
    -------
    CausalAlignment
        Intervals and ``p`` come from leaving out each of 20 groups of stimuli (each stimulus where there are fewer) and
        scoring anew; encoding models are fitted once and judged without each group, given their weights. A bootstrap
        would draw stimuli twice: then one is learned from and judged on, and has distance 0 to itself in an RDM.

    Raises
    ------
    InputError
        Fewer than 8 stimuli, other stimuli or labels on one side only, no such region, no parts, or ``patch`` without
        ``source``.
    SiteError, OptionError, CapabilityError

    References
    ----------
    Yamins et al. 2014, doi:10.1073/pnas.1403112111; Heimersheim and Nanda 2024, How to use and interpret activation
    patching, doi:10.48550/arXiv.2404.15255; Phipson and Smyth 2010, doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> network = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 4, bias=False))
    >>> network[1].weight.data = torch.eye(4)
    >>> x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    >>> found = nm.causal_alignment(nm.adapt(network), x, x[:, :1], site="1", ablate=["0[unit=0]", "0[unit=1]"])
    >>> found.values.values.ravel().round(2).tolist()
    [-1.0, -0.0]
    """
    _check(model, n_controls, correction, ablation)
    method = RidgeEncoding() if method is None else with_fixed_seed(method)
    draw = int(generator(seed).integers(2**31))
    regions = _regions(recording, region)
    names = component_names(model, ablate)
    readout = _Readout(model, inputs, site, regions, stimuli, batch_size)
    before = readout.under(())
    scorers = {one.name: scorer(method, one.n_stimuli, cv, draw) for one in regions}
    controls = {
        name: random_parts(model, inputs, name, n_controls, batch_size, draw + rank) for rank, name in enumerate(names)
    }
    how = ablation_of(model, inputs, source, names, ablation, batch_size, draw)
    data, flat = _measured(readout, before, scorers, how, controls, correction)
    settings = {
        "site": site,
        "ablation": ablation,
        "method": repr(method),
        "correction": correction,
        "n_controls": n_controls,
    }
    return CausalAlignment(
        data,
        f"Alignment of {site} without each part ({ablation})",
        attributes={**settings, "n_stimuli": regions[0].n_stimuli, "n_groups": len(scorers[regions[0].name].left_out)},
        provenance=Provenance.record(seed=seed, model=model.fingerprint(), arguments=settings),
        citations=_CITATIONS,
        warnings=(
            *_warnings(data, controls, flat, n_controls),
            *([_GIVEN_WEIGHTS] if isinstance(method, EncodingModel) else []),
        ),
    )


def _check(model: Any, n_controls: Any, correction: str, ablation: str) -> None:
    check_editable(model)
    whole("n_controls", n_controls, least=0)
    check_option("correction", correction, CORRECTIONS)
    check_option("ablation", ablation, ABLATIONS)


def _regions(recording: Any, name: str | None) -> list[Region]:
    regions = regions_of(recording)
    if name is not None:
        known = [region.name for region in regions]
        regions = [region for region in regions if region.name == name]
        if not regions:
            raise InputError("no such region", expected="one of " + ", ".join(known), got=name)
    if regions[0].n_stimuli < _FEWEST_STIMULI:
        raise InputError("too few stimuli", expected=f"at least {_FEWEST_STIMULI}", got=regions[0].n_stimuli)
    return regions


def _measured(
    readout: _Readout,
    before: _Rows,
    scorers: dict[str, Scorer],
    how: Ablation,
    controls: dict[str, list[str]],
    correction: str,
) -> tuple[xr.Dataset, list[str]]:
    """Return the statistics, and the parts without which the readout does not vary."""
    names, regions = list(controls), readout.regions
    shape = (len(names), len(regions))
    effect, low, high, p = (np.zeros(shape) for _ in range(4))
    by_control = np.full((*shape, max(map(len, controls.values()))), np.nan)
    p_controls = np.full(shape, np.nan)
    base = [scorers[one.name].score(before[one.name], one.patterns) for one in regions]
    base_without = [scorers[one.name].jackknife(before[one.name], one.patterns) for one in regions]
    known: dict[str, list[float]] = {}  # parts are each other's controls

    def changes(name: str) -> list[_Rows]:
        return [readout.under([edit]) for edit in how.edits(name)]

    def effects(name: str, runs: list[_Rows] | None = None) -> list[float]:
        key = str(SiteReference.parse(name))
        if key not in known:
            runs = changes(name) if runs is None else runs
            known[key] = [
                _mean_change(runs, before, one, base[rank], scorers[one.name].score) for rank, one in enumerate(regions)
            ]
        return known[key]

    flat: list[str] = []
    for row, name in enumerate(progress_bar(names, description="take out")):
        runs = changes(name)
        effect[row] = effects(name, runs)
        flat += [name] if any((rows == rows[0]).all() for run in runs for rows in run.values()) else []
        for rank, one in enumerate(regions):
            without = _mean_change(runs, before, one, base_without[rank], scorers[one.name].jackknife)
            low[row, rank], high[row, rank], p[row, rank] = jackknife_interval(
                effect[row, rank], np.broadcast_to(without, base_without[rank].shape)
            )
        others = [effects(other) for other in controls[name]]
        if others:
            by_control[row, :, : len(others)] = np.array(others).T
            p_controls[row] = control_p(effect[row], np.array(others))
    base_intervals = [jackknife_interval(value, without) for value, without in zip(base, base_without, strict=True)]
    statistics = {
        "effect": effect,
        "low": low,
        "high": high,
        "p": p,
        "p_adjusted": adjust_p(p, correction),
        "p_controls": p_controls,
        "p_controls_adjusted": adjust_p(p_controls, correction),
        "alignment": effect + np.array(base),
    }
    return _dataset(names, regions, statistics, by_control, np.array(base), np.array(base_intervals)), flat


def _mean_change(runs: list[_Rows], before: _Rows, region: Region, base: Any, score: Any) -> Any:
    """Return the change of a score, averaged over draws; exactly 0 where the readout is what it was."""
    changes = []
    for run in runs:
        same = np.array_equal(run[region.name], before[region.name])
        changes.append(np.zeros_like(base) if same else score(run[region.name], region.patterns) - base)
    return np.mean(changes, 0)


def _dataset(
    names: list[str],
    regions: list[Region],
    statistics: dict[str, Floats],
    by_control: Floats,
    base: Floats,
    base_intervals: Floats,
) -> xr.Dataset:
    change = {"long_name": "change in alignment when taken out", "units": "score"}
    data = xr.Dataset(
        {name: (("component", "region"), values) for name, values in statistics.items()},
        {"component": names, "region": [region.name for region in regions]},
    )
    data["control"] = (("component", "region", "control"), by_control)
    for name in ("effect", "low", "high", "control"):
        data[name].attrs.update(change)
    data["alignment"].attrs.update({"long_name": "alignment without the component", "units": "score"})
    for name, values in (("", base), ("_low", base_intervals[:, 0]), ("_high", base_intervals[:, 1])):
        data[f"baseline{name}"] = ("region", values, {"long_name": "alignment of the whole model", "units": "score"})
    return data


_GIVEN_WEIGHTS = (
    "intervals and p of encoding models are given the fitted weights: where stimuli are drawn anew they hold the "
    "effect in about 80% of the cases, not 95%; those of method=CKA() do (96%)"
)


def _warnings(data: xr.Dataset, controls: dict[str, list[str]], flat: list[str], n_controls: int) -> tuple[str, ...]:
    texts: list[str] = []
    alone = [name for name, others in controls.items() if not others]
    if n_controls and alone:
        texts.append(f"no random parts of the same size to compare with: {', '.join(alone[:5])}")
    few = [len(others) for others in controls.values() if others and 1 / (len(others) + 1) > SIGNIFICANT]
    if few:
        texts.append(
            f"some parts have only {min(few)} random parts to compare with: p_controls cannot be below "
            f"{1 / (min(few) + 1):.2g}"
        )
    if flat:
        texts.append(f"without these parts the readout does not vary, and its alignment counts as 0: {flat[:5]}")
    weak = data["region"].values[data["baseline_low"].values <= 0]
    if weak.size:
        texts.append(f"the whole model is not surely aligned with {', '.join(map(str, weak))}: there is little to lose")
    return tuple(texts)
