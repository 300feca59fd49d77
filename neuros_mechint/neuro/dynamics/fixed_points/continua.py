"""Lines, rings and surfaces of fixed or slow points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Complexes, Floats
from neuros_mechint.neuro.dynamics.fixed_points.linearisation import nearest_to_one, slow_modes

MOST_SLOW_MODES, SLOWER = 2, 4.0
"""How many modes may be slow, and how much slower than all others they must be."""
_FEWEST_POINTS = 8
_FEWEST_OF_SURFACE = _FEWEST_POINTS**2  # as dense along both of its directions
_GAP, _GAP_OF_ALL = 10.0, 0.1  # times the usual distance of neighbours, and the sum of all: no wider gap is bridged
_LEAST_ALIGNED = 0.8
_MOSTLY = 0.9
_RING = 3.0  # times as long as its ends are apart
_INDEPENDENT = 1e-6
_LASTING = 20.0  # times the steps in which other directions settle
_FOREVER = 1e9


class Continuum(NamedTuple):
    """A line, ring or surface along which a system hardly moves."""

    kind: str
    """``"line"``, ``"ring"``, ``"surface"``, or ``"sheet"``: two modes are slow, but points too few for a surface."""
    points: npt.NDArray[np.int64]
    """Which points lie on it."""
    length: float
    """Along a line, or around a ring; of a surface, the longest way between two points. In units of the state."""
    aligned: float
    """Cosine between the directions to neighbours and the slow modes, the median."""
    attracting: bool
    """Whether all other modes shrink, at nine of ten points at least."""
    steps: float
    """Fewest steps in which the system can creep along all of it: its length by the speed of its fastest point."""
    settling: float
    """Steps in which other modes settle: 1 / |1 - eigenvalue| of the slowest of them, the median."""
    n_fixed: int = 0
    """How many of its points are fixed points."""

    def told(self) -> str:
        """Return it in words.

        Examples
        --------
        >>> print(Continuum("ring", np.arange(30), 6.283, 0.999, True, 1000.0, 2.0).told())
        a ring attractor: 30 points within a length of 6.28, along which the system takes 1e+03 steps or more, while
        other directions settle in 2
        """
        points = f"{len(self.points)} points within a length of {self.length:.3g}"
        along = f"takes {self.steps:.3g} steps or more" if self.steps < _FOREVER else "does not move"
        if self.kind == "sheet":
            return (
                f"two slow directions at {points}, fewer than the {_FEWEST_OF_SURFACE} from which a surface is told; "
                f"other directions settle in {self.settling:.2g}"
            )
        others = "settle" if self.attracting else "grow, turn or settle"
        settling = f"while other directions {others} in {self.settling:.2g}"
        return f"{self._name()}: {points}, along which the system {along}, {settling}"

    def _name(self) -> str:
        if not self.attracting:
            return f"a {self.kind} of points that is no attractor"
        # one slow mode of one point makes a line of slow points too, which ends where speed exceeds what is called slow
        if self.kind != "ring" and self.steps < _FOREVER and self.n_fixed < 2:
            through = (
                f"through one fixed point, and no {self.kind} attractor" if self.n_fixed else "without a fixed point"
            )
            return f"a slow {self.kind} {through}"
        return f"a {self.kind} attractor"


def find_continua(points: Floats, speeds: Floats, eigenvalues: Complexes, jacobians: Floats) -> list[Continuum]:
    """Return the lines, rings and surfaces that points lie on, the one with most points first.

    Points belong together where one or two of their modes are four times slower than all others, neighbours are no
    further apart than ten times what is usual or a tenth of the whole length, and lie in the direction of these slow
    modes. Fewer than eight points are no continuum, and fewer than 64 with two slow modes no surface but a sheet; nor
    is it one if the system can creep along it within twenty times the steps in which other directions settle.

    Parameters
    ----------
    points : numpy.ndarray of shape (n_points, n_states)
    speeds : numpy.ndarray of shape (n_points,)
        Per step.
    eigenvalues : numpy.ndarray of shape (n_points, n_states)
        Nearest to 1 first, as `linearise` returns them.
    jacobians : numpy.ndarray of shape (n_points, n_states, n_states)

    Returns
    -------
    list of Continuum

    Examples
    --------
    >>> points = np.stack([np.linspace(0, 1, 20), np.zeros(20)], 1)
    >>> values, jacobians = np.tile([1.0, 0.5], (20, 1)).astype(complex), np.tile(np.diag([1.0, 0.5]), (20, 1, 1))
    >>> [(found.kind, round(found.length, 6)) for found in find_continua(points, np.zeros(20), values, jacobians)]
    [('line', 1.0)]
    """
    n_slow = slow_modes(eigenvalues, MOST_SLOW_MODES, SLOWER)
    found = []
    for n_modes in range(1, MOST_SLOW_MODES + 1):
        rows = np.flatnonzero(n_slow == n_modes)
        if len(rows) >= _FEWEST_POINTS:
            found += [
                _among_others(one, speeds[rows], eigenvalues[rows, n_modes:])._replace(points=rows[one.points])
                for one in _of_so_many_modes(points[rows], _slow_directions(jacobians[rows], n_modes))
            ]
    found = [one for one in found if one.steps >= _LASTING * one.settling]
    return sorted(found, key=lambda one: -len(one.points))


def _among_others(one: Continuum, speeds: Floats, others: Complexes) -> Continuum:
    """Return a continuum with what the other modes of its points do, and how fast it creeps beside them."""
    attracting = bool((np.abs(others[one.points]) < 1).all(1).mean() >= _MOSTLY)
    settling = float(1 / np.median(np.abs(1 - others[one.points, 0])))
    fastest = max(float(speeds[one.points].max()), one.length / (10 * _FOREVER))
    return one._replace(attracting=attracting, steps=one.length / fastest, settling=settling)


def _slow_directions(jacobians: Floats, n_modes: int) -> Complexes:
    values, vectors = np.linalg.eig(jacobians)
    return np.take_along_axis(vectors.astype(complex), nearest_to_one(values)[:, None, :n_modes], 2)


def _of_so_many_modes(points: Floats, modes: Complexes) -> list[Continuum]:
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
    from scipy.spatial.distance import pdist, squareform

    tree = minimum_spanning_tree(squareform(pdist(points)))
    if not tree.nnz:
        return []
    tree.data[tree.data > _widest_gap(tree.data)] = 0
    tree.eliminate_zeros()
    n_pieces, piece = connected_components(tree, directed=False)
    pieces = (np.flatnonzero(piece == index) for index in range(n_pieces))
    found = (_piece(points, modes, tree, members) for members in pieces if len(members) >= _FEWEST_POINTS)
    return [one for one in found if one.aligned >= _LEAST_ALIGNED]


def _widest_gap(edges: Floats) -> float:
    return max(_GAP * float(np.median(edges)), _GAP_OF_ALL * float(edges.sum()))


def _piece(points: Floats, modes: Complexes, tree: object, members: npt.NDArray[np.int64]) -> Continuum:
    """Return what is known of points that hang together."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    own = csr_array(tree)[members][:, members].tocoo()
    begin, end = members[own.row], members[own.col]
    aligned = float(np.median([_along(points[b] - points[a], modes[a]) for a, b in zip(begin, end, strict=True)]))
    ways = shortest_path(own.tocsr(), directed=False)
    first, last = np.unravel_index(np.argmax(ways), ways.shape)
    length, gap = float(ways[first, last]), float(np.linalg.norm(points[members[first]] - points[members[last]]))
    if modes.shape[2] > 1:
        kind = "surface" if len(members) >= _FEWEST_OF_SURFACE else "sheet"
        return Continuum(kind, members, length, aligned, True, 0.0, 0.0)
    closed = gap <= _widest_gap(own.data) and length >= _RING * gap
    return Continuum("ring" if closed else "line", members, length + closed * gap, aligned, True, 0.0, 0.0)


def _along(direction: Floats, modes: Complexes) -> float:
    """Return the cosine between a direction and the space of some modes, of which complex ones come in pairs."""
    basis, size, _ = np.linalg.svd(np.concatenate([modes.real, modes.imag], axis=1), full_matrices=False)
    basis = basis[:, size > _INDEPENDENT * size[0]]
    return float(np.linalg.norm(basis.T @ direction) / np.linalg.norm(direction))
