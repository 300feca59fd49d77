"""What flows through the layers: read the stream early, split the output among the nodes, follow attention back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.interventions import check_can_intervene, measure
from neuros_mechint.causal.metrics import metric_values
from neuros_mechint.causal.paths.direct import DirectRuns, sum_per_sample
from neuros_mechint.causal.paths.norms import fitted_norm
from neuros_mechint.causal.paths.wiring import transformer_wiring
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Replace, Zero
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError
from neuros_mechint.core.figures.plotting import heat_map
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NORM = "ln_final"
_REST = "rest"
_ADDITIVE = 1e-3
"""Largest error of the sum of all contributions, as a part of the largest of them."""


def logit_lens(
    model: Adapter,
    inputs: Any,
    metric: Metric,
    sites: str | Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Result:
    """Return the metric as it would be if the model stopped early: each layer's stream is read as the last one is.

    Parameters
    ----------
    model : Adapter
        A transformer whose last residual stream is proven.
    inputs : inputs of the model
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar, e.g. from `log_probability`.
    sites : str or sequence of str, optional
        Residual streams to read, names or patterns; by default the input of the first block and the output of each.
    batch_size : int, optional
        Samples per call of the model.

    Returns
    -------
    Result
        ``metric`` over ``(site,)`` and ``per_sample`` over ``(site, sample)``.

    Raises
    ------
    SiteError
        The model has no proven residual stream.
    InputError
        A site that is no residual stream.

    References
    ----------
    nostalgebraist 2020, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens; Belrose et
    al. 2023, Eliciting latent predictions from transformers with the tuned lens, doi:10.48550/arXiv.2303.08112

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(nm.load_model("induction"))
    >>> tokens = torch.tensor([[0, 17, 42, 8, 5, 17, 42]])
    >>> lens = logit_lens(model, tokens, nm.log_probability(8))
    >>> bool(lens.main.sel(site="blocks.1.resid_post") > lens.main.sel(site="blocks.0.resid_pre"))
    True
    """
    check_can_intervene(model, metric, inputs)
    last = _last_stream(model, inputs)
    layers = int(last.split(".")[1]) + 1
    default = ["blocks.0.resid_pre", *(f"blocks.{layer}.resid_post" for layer in range(layers))]
    streams = model.run(inputs, capture=default if sites is None else sites, batch_size=batch_size).activations
    order = list(model.sites())
    names = sorted(streams, key=lambda name: order.index(name) if name in order else len(order))
    expected = model.run(inputs, capture=last, batch_size=batch_size).activations[last].shape
    for name in names:
        if streams[name].shape != expected:
            raise InputError(
                f"{name!r} is no residual stream",
                expected=f"the shape of {last!r}, {tuple(expected)}",
                got=tuple(streams[name].shape),
            )
    if not names:
        raise InputError("no streams to read", expected="names or patterns such as 'blocks.*.resid_mid'")
    edits = [[Replace(last, streams[name])] for name in names]
    measured = measure(model, inputs, edits, metric, batch_size=batch_size, description="layers")
    label = {"units": getattr(metric, "units", "metric"), "long_name": "metric read from the stream"}
    data = xr.Dataset(
        {
            "metric": ("site", measured.values.mean(1).numpy(), label),
            "per_sample": (("site", "sample"), measured.values.numpy(), label),
        },
        {"site": ("site", names, {"long_name": "residual stream"})},
    )
    return Result(data, "Logit lens", {}, _provenance(model, metric, names), ("belrose2023",))


def direct_logit_attribution(model: Adapter, inputs: Any, metric: Metric, batch_size: int | None = None) -> Result:
    """Split the metric into what each head, each MLP and the input write into the last residual stream.

    The scale of the final norm is held at its value in this run, so that the parts add up to the metric exactly.

    Parameters
    ----------
    model : Adapter
        A transformer with gradients, whose blocks are proven.
    inputs : inputs of the model
    metric : callable
        Linear in the logits, as `logit_difference` is.
    batch_size : int, optional
        Samples per call of the model.

    Returns
    -------
    Result
        ``contribution`` over ``(node,)`` and ``per_sample`` over ``(node, sample)``; the node ``rest`` holds what
        does not depend on the input: biases. ``clean`` over ``(sample,)`` is the metric, their sum.

    Raises
    ------
    CapabilityError
        The metric is not linear in what the final norm gives, or the final norm is of an unknown kind.
    SiteError
        The model has no proven residual stream.

    References
    ----------
    Elhage et al. 2021, https://transformer-circuits.pub/2021/framework/index.html; Wang et al. 2022,
    doi:10.48550/arXiv.2211.00593

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(nm.load_model("induction"))
    >>> tokens = torch.tensor([[0, 17, 42, 8, 5, 17, 42]])
    >>> parts = direct_logit_attribution(model, tokens, nm.logit_difference(8, 5))
    >>> bool(abs(parts.main.sum() - parts.data["clean"].mean()) < 1e-3)
    True
    """
    check_can_intervene(model, metric, inputs)
    last = _last_stream(model, inputs)
    wiring = transformer_wiring(model.sites())
    runs = DirectRuns(model, inputs, wiring, (), batch_size)
    untouched = runs.receive([])
    clean = metric_values(metric, untouched.output)
    norm_site = _NORM if _NORM in set(model.sites()) else last
    read = model.run(inputs, capture=[last, norm_site], batch_size=batch_size).activations
    scaled = fitted_norm(read[last], read[norm_site]) if norm_site != last else _unchanged
    slope = model.gradients(inputs, norm_site, metric, batch_size)[norm_site].double()
    dims = read.dims(norm_site)
    keep_samples = clean.numel() > 1 or read[last].shape[dims.index("sample")] == 1

    def attributed(written: torch.Tensor) -> torch.Tensor:
        return sum_per_sample(slope * scaled(written), dims, keep_samples=keep_samples)

    contributions: dict[str, torch.Tensor] = {}
    rest = runs.activations[last].double()
    for node in wiring.nodes:
        without = runs.receive([Zero(node.site)]).stream
        assert without is not None
        assert untouched.stream is not None
        written = untouched.stream.double() - without.double()
        contributions[node.name], rest = attributed(written), rest - written
    nothing = metric_values(metric, model.run(inputs, edits=[Zero(norm_site)], batch_size=batch_size).output)
    offset = read[norm_site].double() - scaled(read[last].double())
    contributions[_REST] = attributed(rest) + nothing + sum_per_sample(slope * offset, dims, keep_samples=keep_samples)
    _check_additive(torch.stack(list(contributions.values())), clean)
    return _attribution(contributions, clean, model, metric)


class AttentionRollout(Result):
    """Attention followed back to the input; ``data["rollout"]`` is ``(sample, layer, query, key)``."""

    def _draw(self, ax: Axes) -> None:
        last = self.main.isel(layer=-1).mean("sample")
        heat_map(last.assign_attrs(self.main.attrs), ax)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of a nearly square map."""
        return 5.4, 4.4


def attention_rollout(model: Adapter, inputs: Any, batch_size: int | None = None) -> AttentionRollout:
    """Return how much of each input position attention carries to each position of each layer.

    Patterns are averaged over heads, mixed in equal parts with the residual stream, and multiplied layer by layer.

    Parameters
    ----------
    model : Adapter
        A transformer whose attention patterns are proven.
    inputs : inputs of the model
    batch_size : int, optional
        Samples per call of the model.

    Returns
    -------
    AttentionRollout
        ``rollout`` over ``(sample, layer, query, key)``; each row sums to 1.

    Raises
    ------
    SiteError
        The model has no proven attention patterns.

    References
    ----------
    Abnar and Zuidema 2020, Quantifying attention flow in transformers, doi:10.18653/v1/2020.acl-main.385

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> rollout = attention_rollout(nm.adapt(nm.load_model("induction")), torch.tensor([[0, 17, 42, 17]]))
    >>> rollout.main.sum("key").round(4).values.min().item()
    1.0
    """
    captured = model.capture(inputs, "blocks.*.pattern", batch_size=batch_size)
    assert isinstance(captured, Activations)
    names = sorted(captured, key=lambda name: int(name.split(".")[1]))
    reached: list[torch.Tensor] = []
    for name in names:
        pattern = captured[name].double().mean(captured.dims(name).index("head"))
        identity = torch.eye(pattern.shape[-1], dtype=pattern.dtype, device=pattern.device)
        mixed = (pattern + identity) / 2
        mixed = mixed / mixed.sum(-1, keepdim=True)
        reached.append(mixed @ reached[-1] if reached else mixed)
    rollout = torch.stack(reached, dim=1).cpu().numpy()
    data = xr.DataArray(
        rollout,
        {"layer": [int(name.split(".")[1]) for name in names]},
        ("sample", "layer", "query", "key"),
        attrs={"units": "fraction", "long_name": "attention rollout"},
    )
    provenance = Provenance.record(model=model.fingerprint(), arguments={"sites": names})
    return AttentionRollout(data.to_dataset(name="rollout"), "Attention rollout", {}, provenance, ("abnar2020",))


# -- parts -----------------------------------------------------------------------------------------------------------


def _last_stream(model: Adapter, inputs: Any) -> str:
    model.run(inputs)  # sites of some models are proven on the first inputs
    return last_stream(model)


def last_stream(model: Adapter) -> str:
    """Return the residual stream after the last layer of a model that has run, or raise `SiteError`."""
    names = [name for name in model.sites() if name.startswith("blocks.") and name.endswith(".resid_post")]
    if not names or "blocks.0.resid_pre" not in set(model.sites()):
        raise SiteError(
            f"{model!r} has no proven residual stream",
            expected="a transformer with sites blocks.*.resid_pre and blocks.*.resid_post",
        )
    return max(names, key=lambda name: int(name.split(".")[1]))


def _unchanged(values: torch.Tensor) -> torch.Tensor:
    return values


def _check_additive(contributions: torch.Tensor, clean: torch.Tensor) -> None:
    error = float((contributions.sum(0) - clean).abs().max())
    if error > _ADDITIVE * max(float(contributions.abs().max()), 1e-6):
        raise CapabilityError(
            "the metric is not the sum of what the nodes write",
            expected="a metric that is linear in the logits, such as logit_difference, and logits linear in the stream",
            got=f"a sum that is off by {error:.3g}",
            fix="use PathAnalyzer(...).edges(..., receivers='logits') for effects that need not add up",
        )


def _attribution(contributions: dict[str, torch.Tensor], clean: torch.Tensor, model: Adapter, metric: Metric) -> Result:
    per_sample = torch.stack(list(contributions.values())).numpy()
    units = {"units": getattr(metric, "units", "metric")}
    label = {**units, "long_name": "direct contribution"}
    names = list(contributions)
    data = xr.Dataset(
        {
            "contribution": ("node", per_sample.mean(1), label),
            "per_sample": (("node", "sample"), per_sample, label),
            "clean": ("sample", np.asarray(clean), {**units, "long_name": "metric of the clean run"}),
        },
        {"node": names},
    )
    provenance = _provenance(model, metric, names)
    return Result(data, "Direct logit attribution", {}, provenance, ("elhage2021", "wang2022ioi"))


def _provenance(model: Adapter, metric: Metric, names: Sequence[str]) -> Provenance:
    return Provenance.record(model=model.fingerprint(), arguments={"metric": metric, "read": list(names)})
