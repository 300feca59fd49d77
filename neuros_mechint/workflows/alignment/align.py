"""Compare a model with a recording of a brain: which layer is like it, how surely, and how complex both are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.alignment.layer_region import layer_region_map
from neuros_mechint.neuro.alignment.linear.ridge import RidgeEncoding
from neuros_mechint.neuro.alignment.rsa.compare import METHODS
from neuros_mechint.neuro.alignment.samples import label_order
from neuros_mechint.neuro.fractals.comparison.compare import compare_complexity
from neuros_mechint.neuro.fractals.dimensions.higuchi import HiguchiFractalDimension
from neuros_mechint.report.about_runs import own_name
from neuros_mechint.workflows.alignment.agreement import compare_measures
from neuros_mechint.workflows.alignment.brain_data import (
    IMAGES92,
    BrainData,
    brain_data,
    open_recording,
    open_stimuli,
    stimuli_as_taken,
)
from neuros_mechint.workflows.alignment.captions import captions
from neuros_mechint.workflows.alignment.measures import check_rdm
from neuros_mechint.workflows.alignment.order import with_doubt
from neuros_mechint.workflows.alignment.results import LayerGeometry
from neuros_mechint.workflows.alignment.steps import (
    chance_level,
    choose_layer,
    correlate_layers,
    evaluate_layers,
    layer_geometry,
    main_sites,
    sites_in_time,
)
from neuros_mechint.workflows.alignment.words import in_short
from neuros_mechint.workflows.runs.run import WorkflowOutcome, WorkflowRun
from neuros_mechint.workflows.runs.sources import open_model, precision_of

_K_MAX = 10


def align(
    model: Any,
    recording: Any,
    stimuli: Any = None,
    *,
    labels: Sequence[Any] | None = None,
    sites: str | Sequence[str] | None = None,
    region: str | None = None,
    rdm: str = "correlation",
    compare: str = "spearman",
    encoding: bool = False,
    sampling_rate: float | None = None,
    n_resamples: int = 1000,
    batch_size: int | None = None,
    seed: SeedLike = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> WorkflowOutcome:
    """Compare the layers of a model with a recording of the same stimuli.

    Steps: how each layer tells the stimuli apart (``layers``); representational similarity analysis with both noise
    ceilings, the layer chosen without the subject, repetition or stimuli that it is judged on (``choice``); intervals
    and tests (``rsa``); the same with shuffled stimuli (``chance``); canonical correlations with the responses
    (``correlations``); if asked for, an encoding model (``encoding``); which layer each of these measures finds, and
    whether they disagree (``measures``); the complexity of both in time (``complexity``); and all of it in words
    (``in_short``). What does not apply is left out, with its reason.

    Parameters
    ----------
    model : str, pathlib.Path, torch.nn.Module or Adapter
        The name of an embedded model, the folder of a HuggingFace model, ``file.py:function``, or the model itself.
    recording : Recording, xarray.DataArray, pandas.DataFrame, array_like, str or pathlib.Path
        Responses, or dissimilarities of several subjects, see
        `neuros_mechint.workflows.alignment.brain_data.open_recording`.
    stimuli : array_like, xarray.DataArray, pandas.DataFrame, sequence of str, str or pathlib.Path, optional
        One for each stimulus of the recording, see `neuros_mechint.workflows.alignment.brain_data.open_stimuli`. Real
        numbers are cast to the floating type of the model's weights, half, single or double precision. Joined by label
        where both have labels; only where neither has any, by position. By default those of ``"92images"``, if that is
        the recording.
    labels : sequence, optional
        Of the stimuli, where they have none of their own.
    sites : str or sequence of str, optional
        Names or patterns, also with an index; by default the residual stream, or else the outermost modules. Of
        sequences the last position counts where none is chosen.
    region : str, optional
        Which region of the recording; needed where there are several.
    rdm : {"correlation", "euclidean"}
        Dissimilarity of patterns, of the model and of responses, see `neuros_mechint.compute_rdm`. Correlation does not
        see how strongly a stimulus drives all units; it changes when the mean of a unit over stimuli is taken out.
        Where a recording has no such means, as after z-scoring, they are taken out of the layers too.
    compare : str
        Similarity of dissimilarities, see `neuros_mechint.compare_rdms`.
    encoding : bool
        Also fit a ridge regression from each layer to the responses.
    sampling_rate : float, optional
        Steps of the model per second, for the complexity in time. Without it a step counts as one sample.
    n_resamples : int
        Resamples and shuffles.
    batch_size : int, optional
        Stimuli per call of the model.
    seed : int or numpy.random.Generator
        An integer where there is a folder.
    folder : str or pathlib.Path, optional
        Where to keep steps, report and manifest: a run that was cut off goes on there.
    progress : bool

    Returns
    -------
    WorkflowOutcome

    Raises
    ------
    InputError
        Other stimuli than those of the recording, labels on one side only, several regions, fewer than 8 stimuli, or
        layers that do not tell them apart.
    SiteError
        No such site.
    OptionError
        Unknown measures, numbers out of range.

    References
    ----------
    Kriegeskorte, Mur and Bandettini 2008, Representational similarity analysis, doi:10.3389/neuro.06.004.2008; Nili et
    al. 2014, doi:10.1371/journal.pcbi.1003553; Varma and Simon 2006, doi:10.1186/1471-2105-7-91; Hotelling 1936,
    doi:10.1093/biomet/28.3-4.321

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> from neuros_mechint.datasets.tasks import repeated_tokens
    >>> tokens = repeated_tokens(24, n_tokens=12, lag=5).inputs
    >>> layer = nm.adapt(nm.load_model("induction")).capture(tokens, "blocks.0.resid_post[position=-1]")
    >>> recording = layer.matrix("blocks.0.resid_post[position=-1]")  # of a brain that is just like this layer
    >>> found = align("induction", recording, tokens, n_resamples=99, progress=False)
    >>> found.results["choice"].best
    'blocks.0.resid_post'
    """
    check_rdm(rdm)
    check_option("compare", compare, METHODS)
    if sampling_rate is not None:
        sampling_rate = float(number("sampling_rate", sampling_rate, 0, np.inf, closed="neither"))
    adapter, source = open_model(model)
    recorded = open_recording(recording)
    shown = open_stimuli(_default_stimuli(recording, stimuli))
    brain = brain_data(recorded.value, region, rdm)
    inputs = _in_order_of(brain, *stimuli_as_taken(shown.value, labels, precision_of(adapter)))
    chosen = _chosen_sites(adapter, inputs, sites)
    arguments = {
        "labels": None if labels is None else np.asarray(labels).tolist(),
        "sites": chosen,
        "region": region,
        "rdm": rdm,
        "compare": compare,
        "encoding": bool(encoding),
        "sampling_rate": sampling_rate,
        "n_resamples": whole("n_resamples", n_resamples, 19),
        "batch_size": batch_size,
    }
    given = {"model": source, "recording": recorded.source, "stimuli": shown.source}
    run = WorkflowRun("align", arguments, given, seed, folder, progress)
    layers: Any = run.step(
        "layers",
        lambda: layer_geometry(adapter, inputs, chosen, rdm, batch_size, progress, brain.centred, brain.other),
    )
    _compare_geometry(run, layers, brain, compare, n_resamples)
    _compare_responses(run, layers, brain, encoding, n_resamples)
    _compare_measures(run, layers, brain, compare)
    _compare_complexity(run, adapter, inputs, chosen, brain, sampling_rate, batch_size)
    short = run.step("in_short", lambda: in_short(run.results, run.left_out, adapter.fingerprint()))
    subtitle = f"{own_name(source.name)} and {brain.told}. " + " ".join(short.attributes["sentences"][:2])
    told = captions(layers, len(brain.rdms))
    return run.finish("How like a brain the layers of a model are", subtitle, told)


def _default_stimuli(recording: Any, stimuli: Any) -> Any:
    if stimuli is not None:
        return stimuli
    if isinstance(recording, str) and recording == IMAGES92:
        return IMAGES92
    raise InputError(
        "a model needs to see what was shown",
        expected="stimuli=, one input of the model for each stimulus of the recording",
        got=None,
        fix="give a .npy or .nc file, or a folder of pictures; in Python also an array",
    )


def _in_order_of(brain: BrainData, stimuli: Any, labels: tuple[Any, ...] | None) -> Any:
    """Return the stimuli in the order of the recording."""
    sizes = (brain.n_stimuli, len(stimuli))
    if (brain.labels is None) != (labels is None):
        raise _on_one_side(brain.labels is not None)
    order = label_order(brain.labels, labels, sizes, ("the recording", "the stimuli"))
    if order is None:
        return stimuli
    return [stimuli[place] for place in order] if isinstance(stimuli, list) else stimuli[order]


def _on_one_side(recorded: bool) -> InputError:
    """Return the error for labels that only the recording, or only the stimuli have."""
    if recorded:
        return InputError(
            "the recording has labels and the stimuli have none",
            expected="labels on both, to join by, or on neither",
            got="stimuli without labels",
            fix="labels=, one for each stimulus in their order; or a recording without labels, to go by position",
        )
    return InputError(
        "the stimuli have labels and the recording has none",
        expected="labels on both, to join by, or on neither",
        got="a recording without labels",
        fix="label the recording, by the coordinate 'stimulus' of an xarray.DataArray or .nc file; or give stimuli "
        "without labels, to go by position",
    )


def _chosen_sites(model: Any, inputs: Any, sites: str | Sequence[str] | None) -> list[str]:
    """Return the names of sites, which must exist before a run begins."""
    if sites is None:
        model.run(inputs[:1])  # sites of some models are proven by their first inputs
        return main_sites(model)
    names = [sites] if isinstance(sites, str) else [str(one) for one in sites]
    return [str(name) for name in model.capture(inputs[:1], names)]


def _compare_geometry(
    run: WorkflowRun, layers: LayerGeometry, brain: BrainData, compare: str, n_resamples: int
) -> None:
    seed = run.seed
    run.attempt("choice", lambda: choose_layer(layers, brain.rdms, brain.counted, compare, seed("choice")))
    chance: Any = run.step("chance", lambda: chance_level(layers, brain, compare, n_resamples, seed("chance")))

    def rsa() -> Result:
        found = evaluate_layers(layers, brain.rdms, brain.counted, compare, n_resamples, seed("rsa"))
        return with_doubt(found, chance, chance.best)

    run.step("rsa", rsa)


def _compare_responses(
    run: WorkflowRun, layers: LayerGeometry, brain: BrainData, encoding: bool, n_resamples: int
) -> None:
    responses = brain.responses
    chance: Any = run.results["chance"]
    if responses is None:
        reason = "there are dissimilarities only, and no responses to correlate with"
        run.leave_out("correlations", reason)
        return run.leave_out("encoding", reason) if encoding else None

    def correlations() -> Result:
        found = correlate_layers(layers, responses, n_resamples, run.seed("correlations"), run.progress)
        return with_doubt(found, chance, found.best)

    run.attempt("correlations", correlations)
    if encoding:
        components = {site: layers.components(site, layers.data.sizes["component"]) for site in layers.rdms}
        units = np.asarray(responses.values if isinstance(responses, xr.DataArray) else responses)
        method = RidgeEncoding(metric="correlation")

        def predicted() -> Result:
            found = layer_region_map(components, {"recording": units}, method=method, seed=run.seed("encoding"))
            return with_doubt(found, chance, str(found.best_layer()["layer"][0]))

        run.attempt("encoding", predicted)
    return None


def _compare_measures(run: WorkflowRun, layers: LayerGeometry, brain: BrainData, compare: str) -> None:
    if brain.responses is None:
        return run.leave_out("measures", "there are dissimilarities only, and no responses for another measure")
    if len(layers.rdms) < 2:
        return run.leave_out("measures", "there is one layer, about which measures cannot disagree")
    run.attempt(
        "measures",
        lambda: compare_measures(layers, brain, run.results, compare, run.seed("measures"), run.progress),
    )
    return None


def _compare_complexity(
    run: WorkflowRun,
    model: Any,
    inputs: Any,
    sites: Sequence[str],
    brain: BrainData,
    sampling_rate: float | None,
    batch_size: int | None,
) -> None:
    series = brain.series
    if not isinstance(series, Recording):
        return run.leave_out("complexity", "the recording has no axis of time")
    moving = sites_in_time(model, inputs, sites)
    if not moving:
        return run.leave_out("complexity", "no layer of this model has an axis of time")
    run.attempt(
        "complexity",
        lambda: compare_complexity(
            model,
            series,
            HiguchiFractalDimension(k_max=_K_MAX),
            moving,
            inputs=inputs,
            sampling_rate=sampling_rate,
            match="length" if sampling_rate is None else "length and sampling",
            batch_size=batch_size,
            seed=run.seed("complexity"),
        ),
    )
    return None
