"""Maximise many functions at once, each of its own row: L-BFGS with a backtracking line search for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

_MEMORY = 10
_ARMIJO = 1e-4
_FIRST_MOVE = 1.0
_LONGEST_MOVE = 1.0
_SHORTEST_STEP = 2.0**-12
_CURVED = 1e-10
_TOLERANCE = 1e-5

Function = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""``function(rows)`` gives the values, ``(n_rows,)``, and the gradients, shaped like the rows."""


def maximise(function: Function, rows: torch.Tensor, calls: Iterable[object]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows at which each function is (locally) greatest, and the greatest values so far, ``(n_rows, n_calls)``.

    Parameters
    ----------
    function : callable
        The value of a row depends on that row alone.
    rows : torch.Tensor of shape (n_rows, n_entries)
        Where to start. Entries are expected to matter on a scale of one: no move is longer than that, on average.
    calls : iterable
        As many calls of the function, at most, as it has items; fewer where no row gets any further.

    References
    ----------
    Liu and Nocedal 1989, On the limited memory BFGS method for large scale optimization, doi:10.1007/BF01589116

    Examples
    --------
    >>> top = torch.tensor([[1.0, 2.0]])
    >>> def paraboloid(rows):
    ...     return -(rows - top).square().sum(1), 2 * (top - rows)
    >>> maximise(paraboloid, torch.zeros(1, 2), range(20))[0].round(decimals=4)
    tensor([[1., 2.]])
    """
    search = _Search(function, rows)
    trace = [search.values]
    for _ in calls:
        if not bool(search.moving.any()):
            break
        search.advance()
        trace.append(search.values)
    return search.rows, torch.stack(trace, 1)


class _Search:
    """Where each row is, what it remembers of the curvature, and how far along its direction it tries to go."""

    def __init__(self, function: Function, rows: torch.Tensor) -> None:
        self.function, self.rows = function, rows.clone()
        self.values, self.gradients = function(self.rows)
        self.moves = rows.new_zeros(_MEMORY, *rows.shape)
        self.bends = torch.zeros_like(self.moves)
        self.steps = rows.new_ones(len(rows))
        self.scales = self._rises()
        self.moving = self._steep()
        self.directions = self._upwards()

    def advance(self) -> None:
        """Try one step of every row: where it gains, go on from there, and else try half of it."""
        tried = self.rows + (self.moving * self.steps)[:, None] * self.directions
        values, gradients = self.function(tried)
        slopes = (self.gradients * self.directions).sum(1)
        gained = self.moving & self._gains(values, slopes, (gradients * self.directions).sum(1))
        self._remember(gained, tried - self.rows, self.gradients - gradients)
        self.rows = torch.where(gained[:, None], tried, self.rows)
        self.gradients = torch.where(gained[:, None], gradients, self.gradients)
        self.values = torch.where(gained, values, self.values)
        self.steps = torch.where(gained, torch.ones_like(self.steps), self.steps / 2)
        stuck = self.steps < _SHORTEST_STEP
        # what is remembered of the curvature may be wrong, at a kink: once more straight up, then no more
        bare = ~self.moves.flatten(2).any(2).any(0)
        self.moving = self.moving & ~(stuck & bare) & self._steep()
        self.moves[:, stuck], self.bends[:, stuck] = 0, 0
        self.steps = torch.where(stuck, torch.ones_like(self.steps), self.steps)
        self.directions = torch.where((gained | stuck)[:, None], self._upwards(), self.directions)

    def _gains(self, values: torch.Tensor, slopes: torch.Tensor, slopes_there: torch.Tensor) -> torch.Tensor:
        """Return which rows gain enough: by their values or, where these differ by rounding only, by their slopes."""
        enough = (values > self.values) & (values >= self.values + _ARMIJO * self.steps * slopes)
        same = (values - self.values).abs() <= self._rounding()
        return enough | (same & (slopes_there.abs() < (1 - _ARMIJO) * slopes))

    def _rises(self) -> torch.Tensor:
        """Return how much a move of the longest length would gain, to first order."""
        return self.gradients.norm(dim=1) * _LONGEST_MOVE * len(self.rows[0]) ** 0.5

    def _rounding(self) -> torch.Tensor:
        return torch.finfo(self.rows.dtype).eps * (self.values.abs() + self.scales)

    def _steep(self) -> torch.Tensor:
        """Return which rows have more to gain than is lost in rounding, and than next to nothing of what they had."""
        rises = self._rises()
        self.scales = self.scales.maximum(rises)
        return (rises > self._rounding()) & (rises > _TOLERANCE * self.scales)

    def _remember(self, gained: torch.Tensor, moves: torch.Tensor, bends: torch.Tensor) -> None:
        curved = gained & ((moves * bends).sum(1) > _CURVED * moves.norm(dim=1) * bends.norm(dim=1))
        for memory, newest in ((self.moves, moves), (self.bends, bends)):
            memory[:, curved] = torch.cat([memory[1:, curved], newest[None, curved]])

    def _upwards(self) -> torch.Tensor:
        """Return each row's direction: the two loops of L-BFGS, or the gradient where nothing is remembered."""
        products = (self.moves * self.bends).sum(2)
        weights = torch.where(products > 0, 1 / products, 0)
        directions, shares = self.gradients.clone(), torch.zeros_like(products)
        for past in reversed(range(_MEMORY)):
            shares[past] = weights[past] * (self.moves[past] * directions).sum(1)
            directions = directions - shares[past, :, None] * self.bends[past]
        squares = self.bends[-1].square().sum(1)
        root = len(self.rows[0]) ** 0.5
        first = _FIRST_MOVE * root / self.gradients.norm(dim=1).clamp_min(torch.finfo(self.rows.dtype).tiny)
        directions = directions * torch.where(products[-1] > 0, products[-1] / squares, first)[:, None]
        for past in range(_MEMORY):
            back = weights[past] * (self.bends[past] * directions).sum(1)
            directions = directions + (shares[past] - back)[:, None] * self.moves[past]
        lengths = directions.norm(dim=1, keepdim=True).clamp_min(torch.finfo(self.rows.dtype).tiny)
        return directions * (_LONGEST_MOVE * root / lengths).clamp_max(1)
