"""The loss of a network on fixed samples: of all or some of them, at its own weights or at others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from neuros_mechint.adapters.batches import Batch, on_device
from neuros_mechint.adapters.registry import adapt
from neuros_mechint.adapters.running import explained
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError

Loss = Callable[..., torch.Tensor]
"""``loss(output, targets)``, or ``loss(output)`` where there are no targets: the mean over samples."""


class Objective:
    """The mean loss of a model over fixed samples.

    Nothing here changes the model: gradients come back as values, and other weights are put in for one call only. Of a
    compiled model the module that was compiled is looked at.

    Parameters
    ----------
    model : Adapter or torch.nn.Module
    inputs : tensor, tuple or dict
        What the model takes.
    targets : tensor, tuple or dict, optional
        What the loss compares with, one row per sample.
    loss : callable, optional
        See `Loss`; by default the output's own field ``loss``, which HuggingFace models fill where the inputs hold
        ``labels``.

    Raises
    ------
    CapabilityError
        The model is no torch module, has nothing to train, or lazy layers that never ran.
    InputError
        Targets that do not fit the inputs, or come without a loss.
    OptionError
        A loss that cannot be called.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> objective = Objective(model, torch.zeros(4, 2), torch.ones(4, 1), nn.functional.mse_loss)
    >>> objective.n_samples, objective.n_weights
    (4, 3)
    >>> round(float(objective.value(weights=torch.zeros(3))), 3)
    1.0
    """

    def __init__(self, model: Any, inputs: Any, targets: Any = None, loss: Loss | None = None) -> None:
        self.adapter: Any = adapt(_uncompiled(model))
        self.module: nn.Module = trained_module(self.adapter)
        self.batch: Batch = self.adapter.prepared(inputs, ())[0]
        self.loss = _checked_loss(loss, targets)
        self._structure = type(targets)
        self._targets = None if targets is None else _as_batch(targets, self.batch)
        self.named = {name: weight for name, weight in self.module.named_parameters() if weight.requires_grad}
        if not self.named:
            raise CapabilityError(
                "the model has no weights that are trained", expected="parameters with requires_grad=True"
            )
        if any(isinstance(weight, UninitializedParameter) for weight in self.module.parameters()):
            raise CapabilityError(
                "the model has lazy layers, whose weights are not there yet",
                expected="weights with a shape",
                fix="run the model once before: model(inputs)",
            )
        self._called = _Called(self.adapter, self.module)

    def renew(self) -> None:
        """Take the weights of the same names that the model has now: modules may have been put in anew."""
        now = dict(self.module.named_parameters())
        self.named = {name: now[name] for name in self.named}

    @property
    def n_samples(self) -> int:
        """Samples of the probe."""
        return self.batch.n_samples

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weights that are trained."""
        return list(self.named.values())

    @property
    def n_weights(self) -> int:
        """How many numbers they hold."""
        return sum(weight.numel() for weight in self.weights)

    def targets_fingerprint(self) -> str | None:
        """Return a hash of the targets, or ``None`` where there are none."""
        return None if self._targets is None else self._targets.fingerprint()

    def value(self, start: int = 0, stop: int | None = None, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mean loss over samples ``start`` to ``stop``, as a scalar with its graph.

        Parameters
        ----------
        start, stop : int
        weights : torch.Tensor of shape (n_weights,), optional
            In place of the model's own, in the order of ``named``.

        Raises
        ------
        InputError
            The model does not run on the inputs, or what the loss returned is no scalar that depends on the weights.
        """
        stop = self.n_samples if stop is None else stop
        part = self.batch if stop - start == self.n_samples else self.batch.rows(start, stop)
        with torch.inference_mode(False), torch.enable_grad():
            with explained(part):
                output = self._output(part.copied(), weights)
            return _checked(self._loss_of(output, start, stop), weights is None or weights.requires_grad)

    def gradient(self, start: int = 0, stop: int | None = None) -> tuple[float, list[torch.Tensor]]:
        """Return the loss and its derivative with respect to each weight."""
        with differentiable(self.module):
            loss = self.value(start, stop)
            found = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
        return float(loss.detach()), list(found)

    def flat_weights(self) -> torch.Tensor:
        """Return a copy of the weights as one vector."""
        return flattened([weight.detach() for weight in self.weights])

    def _output(self, part: Batch, weights: torch.Tensor | None) -> Any:
        if weights is None:
            return self._called(part)
        pieces = weights.split([weight.numel() for weight in self.weights])
        replaced = {
            f"module.{name}": piece.view_as(weight).to(weight.dtype)
            for (name, weight), piece in zip(self.named.items(), pieces, strict=True)
        }
        return torch.func.functional_call(self._called, replaced, (part,))

    def _loss_of(self, output: Any, start: int, stop: int) -> Any:
        if self.loss is None:
            own = own_loss(output)
            if own is None:
                raise InputError(
                    "there is no loss to look at",
                    expected="loss=a function of the output and the targets, or an output with a field `loss`",
                    got=f"an output of type {type(output).__name__}",
                    fix='pass targets= and loss=, or, to a HuggingFace model, a probe with "labels"',
                )
            return own
        arguments = (output, *self._targets_of(start, stop))
        try:
            return self.loss(*arguments)
        except Exception as error:
            error.add_note("in the loss, called with the output" + " and the targets" * (len(arguments) > 1))
            raise

    def _targets_of(self, start: int, stop: int) -> tuple[Any, ...]:
        if self._targets is None:
            return ()
        part = self._targets.rows(start, stop)
        if issubclass(self._structure, Mapping):
            return (dict(part.kwargs),)
        return (part.args if issubclass(self._structure, tuple) else part.args[0],)


class _Called(nn.Module):
    """A model as its adapter calls it: adapters of other libraries add arguments of their own."""

    def __init__(self, adapter: Any, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._call = adapter._call

    def forward(self, part: Batch) -> Any:
        """Return the model's output on some samples."""
        return self._call(part)


def trained_module(adapter: Any) -> nn.Module:
    """Return the torch module behind an adapter.

    Raises
    ------
    CapabilityError
        There is none: a recording, or a network of another simulator.

    Examples
    --------
    >>> trained_module(adapt(nn.Linear(2, 1)))
    Linear(in_features=2, out_features=1, bias=True)
    """
    module = getattr(adapter, "module", None)
    if isinstance(module, nn.Module) and hasattr(adapter, "_call"):
        return module
    raise CapabilityError("this is no model that torch trains", expected="a torch module", got=type(adapter).__name__)


def own_loss(output: Any) -> Any:
    """Return the loss that a model's output holds, or ``None``.

    Examples
    --------
    >>> own_loss({"logits": torch.zeros(2)}) is None
    True
    """
    return output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)


def flattened(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors as one vector.

    Examples
    --------
    >>> flattened([torch.zeros(2, 2), torch.ones(1)])
    tensor([0., 0., 0., 0., 1.])
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@contextmanager
def differentiable(module: nn.Module, twice: bool = False) -> Generator[None]:
    """Choose kernels that can be differentiated in eval mode, and twice where that is asked for.

    Examples
    --------
    >>> with differentiable(nn.GRU(2, 3)):
    ...     torch.backends.cudnn.enabled
    False
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with ExitStack() as stack:
        if any(isinstance(part, nn.RNNBase) for part in module.modules()):
            # cuDNN's recurrent kernels have no gradient in eval mode
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if twice:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused attention has no second derivative
        yield


def _uncompiled(model: Any) -> Any:
    """Return the module behind ``torch.compile``: its graph passes hooks by, and has no second derivative."""
    return getattr(model, "_orig_mod", model) if isinstance(model, nn.Module) else model


def _checked_loss(loss: Any, targets: Any) -> Any:
    if loss is not None and not callable(loss):
        raise OptionError("the loss cannot be called", expected="a function of output and targets", got=repr(loss)[:80])
    if loss is None and targets is not None:
        raise InputError(
            "targets are given, and no loss that compares with them",
            expected="loss=a function of the output and the targets",
            fix='pass loss=, or, to a HuggingFace model, no targets and a probe with "labels"',
        )
    return loss


def _as_batch(targets: Any, batch: Batch) -> Batch:
    device = next((value.device for value in _arrays(batch) if isinstance(value, torch.Tensor)), torch.device("cpu"))
    if isinstance(targets, Mapping):
        args, kwargs = (), {name: on_device(value, device) for name, value in targets.items()}
    else:
        args, kwargs = tuple(on_device(one, device) for one in _in_tuple(targets)), {}
    first = next(iter((*args, *kwargs.values())), None)
    shape = tuple(getattr(first, "shape", ()))
    # with time first in the inputs (batch_first=False), targets for each time have it first, too; others have none
    axis = batch.sample_axis if shape[batch.sample_axis : batch.sample_axis + 1] == (batch.n_samples,) else 0
    try:
        found = Batch.of(args, kwargs, axis)
    except InputError as error:
        raise InputError(
            "the targets of the probe are no targets",
            expected="finite numbers: a tensor, a tuple of tensors or a dict of them, one row per sample",
            got=error.problem.replace("the inputs", "they"),
        ) from error
    if found.n_samples != batch.n_samples:
        raise InputError(
            "targets and inputs of the probe do not fit",
            expected=f"{batch.n_samples} targets, one per sample",
            got=f"{found.n_samples}, of shape {shape}",
            fix=None
            if batch.sample_axis == 0
            else f"samples are along axis {batch.sample_axis} of the inputs (batch_first=False): "
            "give targets the same axes, or samples first",
        )
    return found


def _arrays(batch: Batch) -> tuple[Any, ...]:
    return (*batch.args, *batch.kwargs.values())


def _in_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _checked(loss: Any, varies: bool) -> torch.Tensor:
    scalar = isinstance(loss, torch.Tensor) and loss.ndim == 0 and not loss.is_complex()
    if scalar and (loss.requires_grad or not varies):
        return loss
    raise InputError(
        "the loss is no scalar that depends on the weights",
        expected="the mean over samples, a tensor of no axes, made of torch operations",
        got=_described(loss),
    )


def _described(loss: Any) -> str:
    if not isinstance(loss, torch.Tensor):
        return type(loss).__name__
    return f"shape {tuple(loss.shape)}, {loss.dtype}" + ("" if loss.requires_grad else ", without a graph")
