"""The networks that the embedded weights are loaded into, written to be read."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError, check_option


class CausalSelfAttention(nn.Module):
    """Multi-head attention to the present and past positions.

    Positions are added to what queries and keys read, but not to what values read, so that a head can find a
    token by where it stands but can copy only what it is. (Press et al. 2021, Shortformer, arXiv:2012.15832.)

    Parameters
    ----------
    d_model : int
        Width of the residual stream.
    n_heads : int
        Number of heads; ``d_model`` must be a multiple of it.

    Raises
    ------
    OptionError
        If ``d_model`` is no multiple of ``n_heads``.

    Examples
    --------
    >>> attention = CausalSelfAttention(d_model=8, n_heads=2)
    >>> tuple(attention(torch.zeros(1, 5, 8), torch.zeros(5, 8)).shape)
    (1, 5, 8)
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise OptionError(
                f"{n_heads} heads do not divide a width of {d_model}",
                expected="d_model a multiple of n_heads",
            )
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, residual: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what the heads write into the residual stream.

        Parameters
        ----------
        residual : torch.Tensor
            ``(batch, position, d_model)``.
        positions : torch.Tensor
            ``(position, d_model)``.
        """
        queries = self._split(self.query(residual + positions))
        keys = self._split(self.key(residual + positions))
        values = self._split(self.value(residual))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(diagonal=1)
        pattern = torch.softmax(scores.masked_fill(future, float("-inf")), dim=-1)
        return self.output((pattern @ values).transpose(1, 2).flatten(2))

    def _split(self, features: torch.Tensor) -> torch.Tensor:
        """``(batch, position, d_model)`` -> ``(batch, head, position, d_head)``."""
        return features.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class AttentionBlock(nn.Module):
    """One layer: attention reads the residual stream and adds to it.

    Parameters
    ----------
    d_model, n_heads : int
        Width of the residual stream and number of heads.

    Examples
    --------
    >>> tuple(AttentionBlock(d_model=8, n_heads=2)(torch.zeros(1, 5, 8), torch.zeros(5, 8)).shape)
    (1, 5, 8)
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.attention = CausalSelfAttention(d_model, n_heads)

    def forward(self, residual: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the residual stream ``(batch, position, d_model)`` after this layer."""
        return residual + self.attention(residual, positions)


class InductionTransformer(nn.Module):
    """A transformer of attention layers only: no MLP, no layer norm, so that every effect is a head's.

    Parameters
    ----------
    n_layers, n_heads : int
        Number of layers and of heads in each.
    d_model : int
        Width of the residual stream.
    d_vocab : int
        Number of tokens.
    n_ctx : int
        Longest sequence.

    Examples
    --------
    >>> model = InductionTransformer()
    >>> tuple(model(torch.zeros(2, 10, dtype=torch.int64)).shape)
    (2, 10, 64)
    """

    def __init__(
        self, n_layers: int = 2, n_heads: int = 4, d_model: int = 64, d_vocab: int = 64, n_ctx: int = 64
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.token_embedding = nn.Embedding(d_vocab, d_model)
        self.position_embedding = nn.Embedding(n_ctx, d_model)
        self.blocks = nn.ModuleList(AttentionBlock(d_model, n_heads) for _ in range(n_layers))
        self.unembedding = nn.Linear(d_model, d_vocab)

    @property
    def dummy_inputs(self) -> torch.Tensor:
        """Example tokens ``(2, 8)``, named as in HuggingFace models: on them the sites are proven."""
        n_tokens = self.token_embedding.num_embeddings
        return torch.arange(16).reshape(2, 8) * 7 % n_tokens

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token.

        Parameters
        ----------
        tokens : torch.Tensor
            ``(batch, position)`` int64.

        Returns
        -------
        torch.Tensor
            ``(batch, position, d_vocab)``.

        Raises
        ------
        InputError
            If ``tokens`` is not two-dimensional or longer than ``n_ctx``.
        """
        n_ctx = self.position_embedding.num_embeddings
        if tokens.ndim != 2 or tokens.shape[1] > n_ctx:
            raise InputError(
                "tokens do not fit this model",
                expected=f"shape (batch, position) with at most {n_ctx} positions",
                got=f"shape {tuple(tokens.shape)}",
            )
        positions = self.position_embedding(torch.arange(tokens.shape[1], device=tokens.device))
        residual = self.token_embedding(tokens)
        for block in self.blocks:
            residual = block(residual, positions)
        return self.unembedding(residual)


class RecurrentNetwork(nn.Module):
    """A recurrent layer and a linear read-out of its state at every time step.

    Parameters
    ----------
    n_inputs, n_units, n_outputs : int
        Sizes of input, state and output.
    cell : {"rnn", "gru"}
        Kind of recurrent layer.
    nonlinearity : {"tanh", "relu"}
        Of the ``"rnn"`` cell; a GRU has tanh built in.

    Raises
    ------
    OptionError
        If ``cell`` or ``nonlinearity`` is unknown, or a GRU is asked for another nonlinearity.

    Examples
    --------
    >>> network = RecurrentNetwork(n_inputs=3, n_units=16, n_outputs=2)
    >>> tuple(network(torch.zeros(4, 30, 3)).shape)
    (4, 30, 2)
    """

    def __init__(
        self,
        n_inputs: int,
        n_units: int,
        n_outputs: int,
        cell: Literal["rnn", "gru"] = "rnn",
        nonlinearity: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__()
        check_option("cell", cell, ("rnn", "gru"))
        check_option("nonlinearity", nonlinearity, ("tanh", "relu") if cell == "rnn" else ("tanh",))
        self.rnn: nn.RNNBase
        if cell == "rnn":
            self.rnn = nn.RNN(n_inputs, n_units, nonlinearity=nonlinearity, batch_first=True)
        else:
            self.rnn = nn.GRU(n_inputs, n_units, batch_first=True)
        self.readout = nn.Linear(n_units, n_outputs)

    @property
    def dummy_inputs(self) -> torch.Tensor:
        """Example inputs ``(2, 5, n_inputs)``."""
        shape = (2, 5, self.rnn.input_size)
        return torch.linspace(-1, 1, steps=math.prod(shape)).reshape(shape)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs ``(trial, time, n_outputs)`` for inputs ``(trial, time, n_inputs)``."""
        states, _ = self.rnn(inputs)
        return self.readout(states)
