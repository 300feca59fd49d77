"""Recurrent networks of rates whose units either excite or inhibit."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.formatting import shapes_repr
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.biophysics.dale.balance import connection_mask
from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
from neuros_mechint.neuro.biophysics.dale.signs import check_inputs

Parametrisation = Literal["projected", "absolute"]
_RATES = {"relu": functional.relu, "softplus": functional.softplus}


class NetworkRun(NamedTuple):
    """What a network did on trials.

    Parameters
    ----------
    outputs : torch.Tensor of shape (trial, time, n_outputs)
    rates : torch.Tensor of shape (trial, time, n_units)
    """

    outputs: torch.Tensor
    rates: torch.Tensor

    def __repr__(self) -> str:
        """Return the shapes."""
        return shapes_repr(self)


class Rates(nn.Module):
    """From the currents of units to their rates, element by element.

    Parameters
    ----------
    nonlinearity : {"relu", "softplus"}

    Raises
    ------
    OptionError
        An unknown nonlinearity.

    Examples
    --------
    >>> Rates("relu")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, nonlinearity: Literal["relu", "softplus"]) -> None:
        super().__init__()
        check_option("nonlinearity", nonlinearity, tuple(_RATES))
        self.nonlinearity = nonlinearity

    def forward(self, currents: torch.Tensor) -> torch.Tensor:
        """Return the rates."""
        return _RATES[self.nonlinearity](currents)

    def extra_repr(self) -> str:
        """Return which function it is."""
        return self.nonlinearity


class EIRecurrentCell(nn.RNNCellBase):
    r"""One time step of a network of excitatory and inhibitory units.

    .. math:: x' = (1 - \alpha) x + \alpha (W f(x) + W_\mathrm{in} u + b) + \sqrt{2 \alpha}\, \sigma \xi

    The state :math:`x` is the input current of each unit, :math:`f(x)` its rate, and :math:`\alpha = dt / \tau`.
    Sources of :math:`W` keep one sign; weights of the inputs, which are no neurons, are free.

    Parameters
    ----------
    n_inputs, n_units : int
    excitatory_fraction : float
    alpha : float
        Time step over time constant, above 0 and up to 1.
    nonlinearity : {"relu", "softplus"}
        From currents to rates.
    noise : float
        :math:`\sigma`, which enters where noise is given to a call.
    density : float
        Share of the connections between units that exist.
    self_connections : bool
    spectral_radius : float
        Of the initial :math:`W`.
    parametrisation : {"projected", "absolute"}
        See `DalesLinear`.
    seed : int or numpy.random.Generator

    Raises
    ------
    OptionError
        Parameters out of range.

    Examples
    --------
    >>> cell = EIRecurrentCell(n_inputs=2, n_units=10)
    >>> cell(torch.zeros(3, 2)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        n_inputs: int,
        n_units: int,
        excitatory_fraction: float = 0.8,
        alpha: float = 0.2,
        nonlinearity: Literal["relu", "softplus"] = "relu",
        noise: float = 0.0,
        density: float = 1.0,
        self_connections: bool = False,
        spectral_radius: float = 1.0,
        parametrisation: Parametrisation = "projected",
        seed: SeedLike = 0,
    ) -> None:
        # torch's own constructor would make other weights, from the global generator
        super(nn.RNNCellBase, self).__init__()
        self.input_size, self.hidden_size = whole("n_inputs", n_inputs), whole("n_units", n_units)
        self.alpha = number("alpha", alpha, 0, 1)
        self.noise = number("noise", noise, 0, math.inf, closed="left")
        random = generator(seed)
        self.rates = Rates(nonlinearity)
        complete = number("density", density, 0, 1) == 1 and self_connections
        mask = None if complete else connection_mask(n_units, n_units, density, self_connections, random)
        self.recurrent = DalesLinear(
            n_units, n_units, excitatory_fraction, parametrisation, mask, spectral_radius, seed=random
        )
        free = random.normal(scale=1 / math.sqrt(n_inputs), size=(n_units, n_inputs))
        self.weight_ih = nn.Parameter(torch.from_numpy(free).to(torch.get_default_dtype()))

    def forward(
        self, inputs: torch.Tensor, state: torch.Tensor | None = None, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the next currents.

        Parameters
        ----------
        inputs : torch.Tensor of shape (trial, n_inputs)
        state : torch.Tensor of shape (trial, n_units), optional
            Currents; 0 if not given.
        noise : torch.Tensor of shape (trial, n_units), optional
            Standard normal numbers.

        Returns
        -------
        torch.Tensor of shape (trial, n_units)
        """
        if state is None:
            state = inputs.new_zeros(inputs.shape[0], self.hidden_size)
        drive = self.recurrent(self.rates(state)) + inputs @ self.weight_ih.T
        after = (1 - self.alpha) * state + self.alpha * drive
        return after if noise is None else after + math.sqrt(2 * self.alpha) * self.noise * noise

    def extra_repr(self) -> str:
        """Return what the cell was made of."""
        return f"{self.input_size}, {self.hidden_size}, alpha={self.alpha:g}, noise={self.noise:g}"


class EIRecurrentNetwork(nn.Module):
    r"""A recurrent network of rates that keeps Dale's law, in its read-out too.

    The currents follow `EIRecurrentCell`; outputs are :math:`W_\mathrm{out} f(x) + b_\mathrm{out}`, where
    :math:`W_\mathrm{out}` keeps the signs of the units as well. With ``nm.adapt`` the currents are the site ``hidden``,
    and single steps can be run; the rates are the site ``rates:out``, where edits reach the read-out only.

    Parameters
    ----------
    n_inputs, n_units, n_outputs : int
    excitatory_fraction : float
        Share of the units that excite; these come first.
    alpha : float
        Time step over time constant of the units.
    nonlinearity : {"relu", "softplus"}
    noise : float
        Standard deviation :math:`\sigma` of the noise of the units; it enters where a call is given a generator.
    density : float
        Share of the connections between units that exist; the others stay zero.
    self_connections : bool
    spectral_radius : float
        Of the initial recurrent weights.
    readout : {"excitatory", "all"}
        Which units project out of the network.
    parametrisation : {"projected", "absolute"}
        See `DalesLinear`; with ``"projected"`` train by `train_biological` or with `enforce_dales_law`.
    seed : int or numpy.random.Generator
        Of initial weights and connections; torch's global generator is not used.

    Raises
    ------
    OptionError
        Parameters out of range, or units of one kind only.

    References
    ----------
    Song, H. F., Yang, G. R., & Wang, X.-J. (2016). Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks. PLoS Computational Biology, 12(2), e1004792. https://doi.org/10.1371/journal.pcbi.1004792

    Examples
    --------
    >>> network = EIRecurrentNetwork(n_inputs=4, n_units=50, n_outputs=1)
    >>> network(torch.zeros(8, 30, 4)).shape
    torch.Size([8, 30, 1])
    >>> run = network.run(torch.zeros(8, 30, 4))
    >>> run.rates.shape
    torch.Size([8, 30, 50])
    """

    def __init__(
        self,
        n_inputs: int,
        n_units: int,
        n_outputs: int,
        excitatory_fraction: float = 0.8,
        alpha: float = 0.2,
        nonlinearity: Literal["relu", "softplus"] = "relu",
        noise: float = 0.0,
        density: float = 1.0,
        self_connections: bool = False,
        spectral_radius: float = 1.0,
        readout: Literal["excitatory", "all"] = "excitatory",
        parametrisation: Parametrisation = "projected",
        seed: SeedLike = 0,
    ) -> None:
        super().__init__()
        check_option("readout", readout, ("excitatory", "all"))
        random = generator(seed)
        self.cell = EIRecurrentCell(
            n_inputs,
            n_units,
            excitatory_fraction,
            alpha,
            nonlinearity,
            noise,
            density,
            self_connections,
            spectral_radius,
            parametrisation,
            random,
        )
        excitatory = self.cell.recurrent.signs > 0
        self.rates = Rates(nonlinearity)  # its own, which runs once in a pass: the site "rates:out" is what leaves
        leaving = excitatory if readout == "excitatory" else torch.ones_like(excitatory)
        mask = None if bool(leaving.all()) else leaving.expand(whole("n_outputs", n_outputs), -1)
        self.readout = DalesLinear(n_units, n_outputs, excitatory_fraction, parametrisation, mask, seed=random)

    @property
    def excitatory(self) -> torch.Tensor:
        """Which units excite, ``(n_units,)`` bool."""
        return self.cell.recurrent.signs > 0

    @property
    def dummy_inputs(self) -> torch.Tensor:
        """Example inputs ``(2, 5, n_inputs)``."""
        shape = (2, 5, self.cell.input_size)
        return torch.linspace(-1, 1, steps=math.prod(shape)).reshape(shape)

    def forward(self, inputs: torch.Tensor, random: torch.Generator | None = None) -> torch.Tensor:
        """Return the outputs ``(trial, time, n_outputs)``; see `run`."""
        return self.run(inputs, random).outputs

    def run(self, inputs: torch.Tensor, random: torch.Generator | None = None) -> NetworkRun:
        """Return outputs and rates.

        Parameters
        ----------
        inputs : torch.Tensor of shape (trial, time, n_inputs)
        random : torch.Generator, optional
            Source of the units' noise, on the device of the inputs; without one there is none.

        Returns
        -------
        NetworkRun

        Raises
        ------
        InputError
            Inputs of another shape or precision, or a source of noise that is no generator of torch.
        """
        check_inputs(inputs, self.cell.input_size, self.cell.weight_ih)
        if random is not None and not isinstance(random, torch.Generator):
            got, fix = type(random).__name__, "torch.Generator().manual_seed(0)"
            raise InputError("the noise has no source", expected="a torch.Generator", got=got, fix=fix)
        if inputs.ndim != 3 or not inputs.shape[1]:
            raise InputError(
                "inputs do not fit the network",
                expected=f"(trial, time, {self.cell.input_size})",
                got=f"shape {tuple(inputs.shape)}",
            )
        noisy = random is not None and self.cell.noise > 0
        states: list[torch.Tensor] = []
        with parametrize.cached():  # weights are computed from free parameters once, not at each step
            for now in inputs.unbind(1):
                noise = None
                if noisy:
                    shape = inputs.shape[0], self.cell.hidden_size
                    noise = torch.randn(shape, generator=random, dtype=inputs.dtype, device=inputs.device)
                states.append(self.cell(now, states[-1] if states else None, noise))
            rates = self.rates(torch.stack(states, dim=1))
            return NetworkRun(self.readout(rates), rates)
