"""Understand a trained transformer: what it does, which parts it needs, which circuit and which features do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuros_mechint.causal.circuits.discovery import discover_circuit
from neuros_mechint.causal.circuits.judging import faithfulness
from neuros_mechint.causal.circuits.results import Circuit
from neuros_mechint.causal.partners import check_partners
from neuros_mechint.core.errors import InputError, SiteError, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.datasets.tasks import repeated_tokens
from neuros_mechint.features.evaluation.evaluate import SAEEvaluation
from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder
from neuros_mechint.report.about_runs import own_name
from neuros_mechint.workflows.induction import InductionCheck, induction_check
from neuros_mechint.workflows.runs.run import WorkflowOutcome, WorkflowRun
from neuros_mechint.workflows.runs.sources import Given, open_array, open_model
from neuros_mechint.workflows.runs.weights import check_weights
from neuros_mechint.workflows.understanding.prompts import (
    PromptPairs,
    WrittenPrompts,
    drawn_tokens,
    open_prompts,
    repeated_token_pairs,
    run_extremes,
)
from neuros_mechint.workflows.understanding.steps import (
    DrawnVocabulary,
    behaviour_of,
    effects_by_head,
    effects_by_position,
    effects_of_features,
    fit_autoencoder,
    heads_that_restore,
    judge_autoencoder,
    middle_site,
    together_and_alone,
)
from neuros_mechint.workflows.understanding.words import captions, in_short

_N_SEQUENCES, _N_TOKENS = 1000, 64
_HELD_OUT = 0.1


def understand(
    model: Any,
    prompts: Any = None,
    *,
    site: str | None = None,
    corpus: Any = None,
    n_features: int | None = None,
    n_prompts: int = 48,
    n_null: int = 39,
    batch_size: int | None = None,
    seed: SeedLike = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> WorkflowOutcome:
    """Find out how a transformer does what it does: activation patching, a sparse autoencoder, and a circuit.

    Steps: what the metric is of clean and corrupted prompts (``behaviour``); where the answer travels (``positions``);
    which heads are needed (``heads``, noising: that of the corrupted run in the clean one), which are enough
    (``heads_denoising``, the other way round), and what is needed of all heads of a layer together (``together``); a
    sparse autoencoder on one site, judged on other inputs (``autoencoder``), and what its features do (``features``); a
    circuit found on one half of the prompts (``circuit``) and judged on the other, against random circuits
    (``faithfulness``); and all of it in words (``in_short``). Without a behaviour that is more than chance no circuit
    is looked for.

    Parameters
    ----------
    model : str, pathlib.Path, torch.nn.Module, HookedTransformer or Adapter
        The name of an embedded model, the folder of a HuggingFace model, ``file.py:function``, or the model itself.
    prompts : PromptPairs, tuple, str or pathlib.Path, optional
        ``(clean, corrupted, metric)``, see `neuros_mechint.workflows.understanding.prompts.PromptPairs`; a JSON file
        ``{"clean": [...], "corrupted": [...], "correct": [...], "wrong": [...]}``; or ``file.py:function``. Their order
        should be random: the circuit is found on the first half. Of pairs that are the same one is kept. By default
        random tokens that repeat, which any language model can be given; ``induction`` then says whether the model
        continues them by induction.
    site : str, optional
        Where to train the sparse autoencoder; the residual stream after the middle layer by default.
    corpus : array_like of shape (n_sequences, n_positions), or the path of a .npy file, optional
        Token ids to train the sparse autoencoder on; the last tenth is held out. By default 1000 random sequences of 64
        tokens that repeat, or, with ``prompts``, one half of these.
    n_features : int, optional
        Of the sparse autoencoder, see `neuros_mechint.workflows.understanding.steps.fit_autoencoder`.
    n_prompts : int
        Pairs to draw for each half, without ``prompts``.
    n_null : int
        Random circuits to compare with, at least 19.
    batch_size : int, optional
        Samples per call of the model.
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
    CapabilityError, SiteError
        The model is no transformer, or what makes it one could not be proven.
    InputError
        Prompts that are no pairs, too few, or with tokens that the model does not know; a metric that is the same for
        all; weights that are not finite.
    OptionError
        Numbers out of range.

    References
    ----------
    Heimersheim and Nanda 2024, How to use and interpret activation patching, doi:10.48550/arXiv.2404.15255; Olsson et
    al. 2022, In-context learning and induction heads, doi:10.48550/arXiv.2209.11895; Gao et al. 2024, Scaling and
    evaluating sparse autoencoders, doi:10.48550/arXiv.2406.04093; Mueller et al. 2025, MIB: A mechanistic
    interpretability benchmark, doi:10.48550/arXiv.2504.13151

    Examples
    --------
    Very few prompts, for a first look; ``understand("induction")`` draws enough:

    >>> import neuros_mechint as nm
    >>> prompts = repeated_token_pairs(nm.adapt(nm.load_model("induction")), 16)
    >>> found = understand("induction", prompts, n_features=8, n_null=19, progress=False)
    >>> found.results["together"].redundant
    ['blocks.0.z', 'blocks.1.z']
    """
    numbers = {"n_prompts": whole("n_prompts", n_prompts, 4), "n_null": whole("n_null", n_null, 19)}
    n_features = None if n_features is None else whole("n_features", n_features, 2)
    adapter, source = open_model(model)
    given = None if prompts is None else open_prompts(prompts)
    texts = None if corpus is None else _tokens_of(open_array(corpus))
    _run_once(adapter, given, texts)
    site = middle_site(adapter) if site is None else _one_site(adapter, site)
    arguments = {"site": site, "n_features": n_features, **numbers, "batch_size": batch_size}
    inputs = {"model": source} | {
        name: one.source for name, one in (("prompts", given), ("corpus", texts)) if one is not None
    }
    run = WorkflowRun("understand", arguments, inputs, seed, folder, progress)
    pairs = _pairs(adapter, given, n_prompts, run).distinct()
    found_on, judged_on = pairs.halves()
    behaviour = run.step("behaviour", lambda: behaviour_of(adapter, pairs, run.seed("behaviour"), batch_size))
    if given is None:
        run.attempt("induction", lambda: _induction(adapter, run))
    _patch(run, adapter, found_on, batch_size)
    _learn_features(run, adapter, site, texts, (found_on, judged_on), n_features, batch_size)
    _find_circuit(run, adapter, behaviour, (found_on, judged_on), n_null)
    short = run.step("in_short", lambda: in_short(run.results, run.left_out, adapter.fingerprint()))
    subtitle = f"{own_name(source.name)}, on {pairs.told}. " + " ".join(short.attributes["sentences"][:2])
    return run.finish("What a transformer does, and how", subtitle, captions(run.results))


def _tokens_of(corpus: Given[Any]) -> Given[torch.Tensor]:
    """Return a corpus as token ids, several sequences of them."""
    values = np.asarray(corpus.value)
    if values.ndim != 2 or values.dtype.kind not in "iu" or len(values) < 2:
        raise InputError(
            "this is no corpus",
            expected="whole numbers, (sequence, position), of at least 2 sequences",
            got=f"{values.dtype}, shape {values.shape}",
        )
    return Given(torch.from_numpy(values.astype(np.int64)), corpus.source)


def _one_site(model: Any, site: str) -> str:
    """Return the name of a site; a pattern must leave no choice."""
    names = [str(one) for one in model.sites(site)]
    if len(names) != 1:
        raise SiteError(
            f"{site!r} is several sites, and features are learned at one",
            expected="the name of one site",
            got=f"{len(names)}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}",
        )
    return names[0]


def _run_once(model: Any, given: Given[PromptPairs | WrittenPrompts] | None, texts: Given[torch.Tensor] | None) -> None:
    """Run the model, which says what is wrong with its inputs before a folder is made; sites are proven by it too."""
    check_weights(getattr(model, "module", None))
    if given is None:
        drawn_tokens(model)
    else:
        pairs = _as_taken(given, model)
        check_partners(model, pairs.clean, pairs.corrupted)
        for name, prompts in (("clean", pairs.clean), ("corrupted", pairs.corrupted)):
            run_extremes(model, prompts, f"the {name} prompts")
    if texts is not None:
        run_extremes(model, texts.value, "the sequences of the corpus")


def _as_taken(given: Given[PromptPairs | WrittenPrompts], model: Any) -> PromptPairs:
    return given.value.of(model) if isinstance(given.value, WrittenPrompts) else given.value


def _pairs(
    model: Any, given: Given[PromptPairs | WrittenPrompts] | None, n_prompts: int, run: WorkflowRun
) -> PromptPairs:
    if given is None:
        return repeated_token_pairs(model, 2 * n_prompts, run.seed("prompts"))
    return _as_taken(given, model)


def _induction(model: Any, run: WorkflowRun) -> InductionCheck:
    seed = run.seed("induction")
    few_tokens: Any = DrawnVocabulary(model, drawn_tokens(model, run.seed("prompts")))
    return induction_check(few_tokens, seed=seed)


def _patch(run: WorkflowRun, model: Any, pairs: PromptPairs, batch_size: int | None) -> None:
    run.step("positions", lambda: effects_by_position(model, pairs, batch_size))
    heads: Any = run.step("heads", lambda: effects_by_head(model, pairs, batch_size))
    run.step("heads_denoising", lambda: heads_that_restore(model, pairs, batch_size))
    run.step("together", lambda: together_and_alone(model, pairs, heads, batch_size))


def _learn_features(
    run: WorkflowRun,
    model: Any,
    site: str,
    texts: Given[torch.Tensor] | None,
    halves: tuple[PromptPairs, PromptPairs],
    n_features: int | None,
    batch_size: int | None,
) -> None:
    """Train a sparse autoencoder, judge it on inputs that were held out, and measure what its features do."""
    judged_on = halves[1]

    def fitted() -> tuple[SAEEvaluation, SparseAutoencoder]:
        training, held_out = _training(run, model, texts, halves)
        seed = run.seed("autoencoder")
        sae = fit_autoencoder(model, site, training, n_features, seed, batch_size, run.progress)
        return judge_autoencoder(sae, model, judged_on, held_out, batch_size), sae

    _, sae = run.keeping_step(
        "autoencoder",
        fitted,
        save=lambda sae, folder: sae.save(folder / "sae"),
        load=lambda folder: SparseAutoencoder.load(folder / "sae"),
    )
    run.attempt("features", lambda: effects_of_features(sae, model, judged_on, run.seed("features"), batch_size))


def _training(
    run: WorkflowRun, model: Any, texts: Given[torch.Tensor] | None, halves: tuple[PromptPairs, PromptPairs]
) -> tuple[Any, Any]:
    """Return inputs to train features on, and others to judge them on."""
    if texts is not None:
        n_held_out = max(1, round(_HELD_OUT * len(texts.value)))
        return texts.value[:-n_held_out], texts.value[-n_held_out:]
    if "prompts" in run.manifest.inputs:
        return halves[0].clean, halves[1].clean
    ids = drawn_tokens(model, run.seed("prompts"))
    tokens = ids[repeated_tokens(_N_SEQUENCES, _N_TOKENS, len(ids), seed=run.seed("corpus")).inputs]
    n_held_out = round(_HELD_OUT * _N_SEQUENCES)
    return tokens[:-n_held_out], tokens[-n_held_out:]


def _find_circuit(
    run: WorkflowRun, model: Any, behaviour: Any, halves: tuple[PromptPairs, PromptPairs], n_null: int
) -> None:
    if not behaviour.is_there:
        reason = f"there is no behaviour to explain (p = {behaviour.attributes['p']:.2g})"
        run.leave_out("circuit", reason)
        return run.leave_out("faithfulness", reason)
    one, other = halves
    circuit = run.attempt(
        "circuit", lambda: discover_circuit(model, one.metric, one.clean, one.corrupted, seed=run.seed("circuit"))
    )
    if not isinstance(circuit, Circuit):
        return run.leave_out("faithfulness", "there is no circuit to judge")
    seed = run.seed("faithfulness")
    run.attempt(
        "faithfulness",
        lambda: faithfulness(circuit, model, other.metric, other.clean, other.corrupted, n_null=n_null, seed=seed),
    )
    return None
