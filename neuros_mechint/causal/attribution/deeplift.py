"""DeepLIFT through captum, at any site of a torch module."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.copies import repeated, split_copies
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.causal.attribution.place import SiteFunction, Unit
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.errors import CapabilityError

_LINEAR = (
    nn.Linear, nn.Bilinear, nn.Identity, nn.Flatten, nn.Embedding, nn.Dropout, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
"""Modules that are linear in eval mode: for them the gradient is DeepLIFT's multiplier."""


def deeplift(captum: Any, function: SiteFunction, values: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
    """Return DeepLIFT's attributions (rescale rule), shaped like ``values``.

    captum puts a rule in place of the derivative of each nonlinear module. It finds them among the children of the
    module it is given, and runs that module on the inputs and the baselines in one batch.

    Raises
    ------
    CapabilityError
        No torch module runs here, or a nonlinear module runs several times in one pass.
    """
    module = torch_module(function.model)
    assert isinstance(function.model, TorchAdapter)
    batch = function.model._prepare(function.inputs)
    twice = repeated(batch, 2)
    doubled = SiteFunction(
        function.model,
        dict(twice.kwargs) if twice.kwargs else twice.args,
        function.place,
        function.metric
        if isinstance(function.metric, Unit)
        else partial(_of_both, function.metric, batch.n_samples, batch.sample_axis),
    )
    nonlinear = _nonlinear_modules(module, doubled, torch.cat([values, baseline]))
    with _prepared(nonlinear), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks", category=UserWarning)
        found = captum.DeepLift(_Metric(doubled, nonlinear)).attribute(values.requires_grad_(), baselines=baseline)
    function.responds = doubled.responds
    return found.detach()


def torch_module(model: Adapter) -> nn.Module:
    """Return the module that an adapter runs in this process."""
    from neuros_mechint.adapters.nnsight import NNsightTraceAdapter

    if not isinstance(model, TorchAdapter) or isinstance(model, NNsightTraceAdapter):
        raise CapabilityError(
            f"DeepLIFT is not possible on {model!r}: captum needs hooks on the nonlinear modules themselves",
            expected="a torch module that runs in this process",
            fix="use method='integrated_gradients'",
        )
    return model.module


def known_to_deeplift() -> str:
    """Name the nonlinear modules for which captum has a rule."""
    return ", ".join(sorted(kind.__name__ for kind in _rules()))


def suspects(module: nn.Module) -> str:
    """Name what in a module may be nonlinear without captum having a rule for it."""
    leaves = [one for one in module.modules() if not list(one.children())]
    others = sorted({type(one).__name__ for one in leaves if type(one) not in _rules() and type(one) not in _LINEAR})
    hidden = (
        "nonlinearities called as functions (torch.relu, the softmax inside attention), which captum cannot see, "
        "or a site that is the input of a nonlinear module itself"
    )
    return f"{', '.join(others)}; or {hidden}" if others else hidden


def _rules() -> Mapping[type[nn.Module], Any]:
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    return SUPPORTED_NON_LINEAR


class _Metric(nn.Module):
    """A metric as a module whose children are the nonlinear modules that captum is to put rules on."""

    def __init__(self, function: SiteFunction, nonlinear: Sequence[nn.Module]) -> None:
        super().__init__()
        self.function = function
        self.nonlinear = nn.ModuleList(nonlinear)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return NaN with DeepLIFT's multipliers as its gradient."""
        return self.function(rows)


def _of_both(metric: Metric, n_samples: int, sample_axis: int, output: Any) -> torch.Tensor:
    """Return the metric of the inputs and that of the baselines, which ran as one batch."""
    return torch.cat([metric(part).reshape(-1) for part in split_copies(output, 2, n_samples, sample_axis)])


def _nonlinear_modules(module: nn.Module, function: SiteFunction, rows: torch.Tensor) -> list[nn.Module]:
    """Return the nonlinear modules through which a gradient can pass, as they run."""
    calls: Counter[nn.Module] = Counter()
    passed: dict[nn.Module, None] = {}

    def count(one: nn.Module, args: tuple[Any, ...]) -> None:
        calls[one] += 1
        # upstream of the site there may be no gradient, and captum's hooks would fail
        if args and isinstance(args[0], torch.Tensor) and args[0].requires_grad:
            passed[one] = None

    handles = [one.register_forward_pre_hook(count) for one in module.modules() if type(one) in _rules()]
    try:
        function.gradient(rows)
    finally:
        for handle in handles:
            handle.remove()
    if reused := [type(one).__name__ for one in passed if calls[one] > 1]:
        raise CapabilityError(
            f"a {reused[0]} module runs several times in one pass: captum's DeepLIFT keeps one activation per module",
            fix="give each call a module of its own, or use method='integrated_gradients'",
        )
    return list(passed)


@contextmanager
def _prepared(modules: Sequence[nn.Module]) -> Generator[None]:
    """Give each module a tensor of its own, and remove what captum leaves on those that no gradient came back to.

    Where one nonlinear module reads the output of another (ReLU, then max pooling), captum's two hooks sit on one
    tensor, and the first module sees the gradient before the rule of the second has changed it.
    """
    handles = [module.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:])) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in modules:
            for name in ("input", "output"):
                vars(module).pop(name, None)
