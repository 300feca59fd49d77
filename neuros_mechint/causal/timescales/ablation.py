"""Remove bands of time scales from an activation and measure the effect, beside controls of the same energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.counterfactuals.one_site import SitePlace, single_site
from neuros_mechint.causal.interventions import Measurements, check_can_intervene, measure
from neuros_mechint.causal.timescales.bands import METHODS, Band, checked_bands, part_in_band
from neuros_mechint.causal.timescales.controls import part_of_energy
from neuros_mechint.causal.timescales.results import ScaleAblation
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Replace
from neuros_mechint.core.errors import check_option, number, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.certainty import control_p, with_statistics
from neuros_mechint.core.statistics.p_values import CORRECTIONS, SIGNIFICANT
from neuros_mechint.neuro.fractals.probes.sequences import SiteSequences

_CITATIONS = {"fourier": ("tamkin2020",), "causal": ("tamkin2020", "shensa1992")}
_NO_ENERGY = 1e-12


def scale_ablation(
    model: Adapter,
    metric: Metric,
    inputs: Any,
    site: str,
    bands: Any = None,
    *,
    method: str = "fourier",
    sampling_rate: float | None = None,
    n_controls: int = 19,
    correction: str = "holm",
    engine: str = "auto",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> ScaleAblation:
    r"""Remove a band of time scales from the activation at a site, one band at a time, and measure the effect.

    The activation :math:`x` is the sum of its parts in bands that share no period. Each part :math:`r_b` is taken away
    in a run of its own, :math:`x - r_b` put in place of :math:`x`, and the change of the metric measured. A control
    takes as much energy away in random directions of time, :math:`\sum_k v_k v_k^T x` with random orthonormal
    :math:`v_k(t)`, the same for all units and samples: as many as hold the energy of the band, the last in part.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar. Its attribute ``units``, if it has one, labels the
        results.
    inputs : inputs of the model
    site : str
        One site with an axis ``time`` or ``position``, maybe with an index: ``"blocks.1.resid_pre[position=1:]"``
        leaves out a first token whose large activation would leak into every band, ``"hidden[unit=3]"`` looks at one
        unit, ``"hidden[time=20:]"`` leaves a transient alone.
    bands : mapping of str to (shortest, longest), or sequence of such pairs, optional
        Periods that are removed together, from ``shortest`` up to, not including, ``longest``, in samples or positions,
        or in seconds where there is a ``sampling_rate``. ``longest`` may be infinite, and then takes the mean over
        time along; ``(inf, inf)`` is this mean alone. Default: octaves, from 2 samples up.
    method : {"fourier", "causal"}
        ``fourier``: bands of the Fourier series of the whole sequence, sharp and orthogonal, so that their energies add
        up. It is not causal: what is taken away at one time depends on later ones. ``causal``: differences of running
        means over the past alone, for models in which later positions must not reach earlier ones (a language model
        whose metric is read in the middle of the sequence, say); bands are soft, and energies do not add up. Its
        controls silence random single times.
    sampling_rate : float, optional
        Samples per second.
    n_controls : int
        How many controls for each band. The smallest p they allow is ``1 / (n_controls + 1)``.
    correction : {"holm", "fdr", "none"}
        How p values are adjusted for the number of bands.
    engine, batch_size
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws controls, bootstrap samples and signs.

    Returns
    -------
    ScaleAblation

    Raises
    ------
    InputError
        A site without such an axis or of whole numbers, bands that are empty or overlap, one sample along time.
    SiteError, CapabilityError, OptionError

    Notes
    -----
    The activation is read once, untouched, and its filtered course put in place. At the state of a recurrent network
    the course of the state itself is set, at every step: what the network would have made of the altered state one
    step later is overwritten, and the effect is on what reads the state out. Padded positions are left as they are;
    a padded sequence has the periods of its own length.

    References
    ----------
    Tamkin, Jurafsky and Goodman 2020, Language Through a Prism: A Spectral Approach for Multiscale Language
    Representations, doi:10.48550/arXiv.2011.04823; Shensa 1992, The discrete wavelet transform: wedding the a trous
    and Mallat algorithms, doi:10.1109/78.157290

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Flatten()))
    >>> x = torch.randn(8, 16, 1, generator=torch.Generator().manual_seed(0)) + 1
    >>> found = scale_ablation(model, lambda output: output.mean(1), x, "0", [(2, 99), (np.inf, np.inf)])
    >>> rest, mean = found.values.values
    >>> bool(abs(mean + x.mean()) < 1e-6), bool(abs(rest) < 1e-6)
    (True, True)
    """
    check_can_intervene(model, metric, inputs)
    check_option("method", method, METHODS)
    check_option("correction", correction, CORRECTIONS)
    n_controls = whole("n_controls", n_controls, least=0)
    rate = 1.0 if sampling_rate is None else number("sampling_rate", sampling_rate, 0, np.inf)
    place = single_site(model, inputs, site, batch_size)
    sequences = SiteSequences.of(place.name, place.values, place.dims, place.attention_mask)
    found = checked_bands(bands, int(sequences.lengths.max()), method, rate)
    rng = generator(seed)
    own_seed = int(rng.integers(2**31))
    measured: list[Measurements] = []
    energy: list[float] = []
    for band in progress_bar(found, description="remove time scales"):
        part = _part(sequences, band, method)
        energy.append(_share(sequences, part))
        removed = [part, *(_random_part(sequences, part, method, rng) for _ in range(n_controls))]
        edits = [[_without(place, sequences, one)] for one in removed]
        measured.append(measure(model, inputs, edits, metric, engine=engine, batch_size=batch_size))
    baseline = measured[0].baseline.numpy()
    change = np.stack([one.values.numpy() for one in measured], axis=1) - baseline
    data, warnings = _labelled(found, change, baseline, np.array(energy), metric, (correction, rate, own_seed))
    data["band"].attrs["long_name"] = _period_label(sequences.axis, sampling_rate)
    arguments = {"metric": metric, "site": site, "bands": bands, "method": method, "n_controls": n_controls}
    notes = [note for one in measured for note in one.notes]
    return ScaleAblation(
        data,
        f"Time scales removed from {site}",
        attributes={
            "site": site,
            "method": method,
            "axis": sequences.axis,
            "sampling_rate": sampling_rate,
            "correction": correction,
            "engine": measured[0].engine,
            "engine_notes": list(dict.fromkeys(notes)),
        },
        provenance=Provenance.record(seed=seed, model=model.fingerprint(), arguments=arguments),
        citations=_CITATIONS[method],
        warnings=(*warnings, *_warnings(found, energy, sequences, n_controls)),
    )


def _part(sequences: SiteSequences, band: Band, method: str) -> torch.Tensor:
    """Return the part of sequences in a band, zero where they are padded."""
    part = torch.zeros_like(sequences.values)
    for samples, steps in sequences.groups():
        part[samples, steps] = part_in_band(sequences.values[samples, steps], band, method)
    return part


def _share(sequences: SiteSequences, part: torch.Tensor) -> float:
    """Return the energy of a part by that of all sequences, padding left out."""
    total = float((sequences.values.square() * sequences.kept[..., None]).sum())
    return float(part.square().sum()) / total if total else 0.0


def _random_part(sequences: SiteSequences, part: torch.Tensor, method: str, rng: np.random.Generator) -> torch.Tensor:
    """Return a part of sequences in random directions of time that has the energy of ``part``."""
    drawn = torch.zeros_like(part)
    for samples, steps in sequences.groups():
        energy = float(part[samples, steps].square().sum())
        drawn[samples, steps] = part_of_energy(sequences.values[samples, steps], energy, method, rng)
    return drawn


def _without(place: SitePlace, sequences: SiteSequences, removed: torch.Tensor) -> Replace:
    """Return the edit that takes a part of an activation away."""
    return Replace(place.name, sequences.in_place(sequences.values - removed).to(place.values.dtype))


def _labelled(
    bands: Sequence[Band],
    change: np.ndarray,
    baseline: np.ndarray,
    energy: np.ndarray,
    metric: Metric,
    how: tuple[str, float, int],
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return the labelled changes, ``change`` being ``(1 + n_controls, band, sample)``, and what to warn of."""
    correction, rate, seed = how
    labels = {"units": getattr(metric, "units", ""), "long_name": "change of the metric"}
    per_sample = xr.DataArray(change[0], dims=("band", "sample"), coords={"band": [band.name for band in bands]})
    arrays, warnings = with_statistics(per_sample, baseline, correction, seed)
    data = xr.Dataset({**arrays, "per_sample": per_sample, "baseline": ("sample", baseline)})
    data["energy"] = ("band", energy, {"long_name": "part of the sum of squares"})
    for name in ("shortest", "longest"):
        data[name] = ("band", [getattr(band, name) / rate for band in bands], {"long_name": f"{name} period"})
    if len(change) > 1:
        data["control"] = (("control", "band"), change[1:].mean(-1))
        p = control_p(change[0].mean(-1), change[1:].mean(-1))
        data["p_control"] = ("band", p, {"long_name": "share of controls that change as much"})
    for name in ("effect", "low", "high", "per_sample", "control"):
        if name in data:
            data[name].attrs.update(labels)
    data["baseline"].attrs.update({**labels, "long_name": "metric of the untouched model"})
    return data, warnings


def _period_label(axis: str, sampling_rate: float | None) -> str:
    units = "seconds" if sampling_rate is not None else "positions" if axis == "position" else "steps"
    return f"periods in {units}"


def _warnings(bands: Sequence[Band], energy: Sequence[float], sequences: SiteSequences, n_controls: int) -> list[str]:
    found: list[str] = []
    empty = [band.name for band, share in zip(bands, energy, strict=True) if share < _NO_ENERGY]
    if empty:
        found.append(f"no energy in {', '.join(empty)}: there was nothing to remove")
    shortest, longest = int(sequences.lengths.min()), int(sequences.lengths.max())
    if shortest < longest:
        found.append(
            f"sequences have from {shortest} to {longest} positions without padding: of the shorter ones "
            "slow bands hold less"
        )
    if n_controls > 0 and 1 / (n_controls + 1) > SIGNIFICANT:
        found.append(f"{n_controls} controls allow no p_control below {1 / (n_controls + 1):.2g}")
    return found
