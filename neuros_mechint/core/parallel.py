"""The one parallel map: joblib, so that a cluster is one `joblib.parallel_config(...)` away."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import cloudpickle
import joblib
import numpy as np
from joblib.parallel import get_active_backend

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy.typing as npt

Item = TypeVar("Item")
Value = TypeVar("Value")

_MOST_WAITING = 1000
"""Items handed to a Dask cluster at once: more than it has workers, so that it may grow, and not all of them."""


def parallel_map(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    n_jobs: int | None = None,
    progress: bool = False,
    description: str = "",
) -> list[Value]:
    """Return ``[function(item) for item in items]``, computed by several workers.

    What ``function`` holds (a model, arrays) goes to each worker process once, however many items there are. So that
    the result does not depend on the workers, ``function`` must not draw from a random state that it holds: each item
    needs a seed of its own.

    Parameters
    ----------
    function : callable
        Called once per item; once more where a machine of a cluster was lost before it told the result.
    items : iterable
        What to work on.
    n_jobs : int or None
        Number of workers: 1 works here, -1 uses every core, None takes what ``joblib.parallel_config`` says, and works
        here without one. The backend (processes, threads, Dask) always comes from there, and on a Dask cluster the
        number of workers too; joblib's processes share the cores between them, so that their linear algebra does not
        compete.
    progress : bool
        Show a bar; joblib's old multiprocessing backend cannot report while it works.
    description : str
        Shown before the bar.

    Returns
    -------
    list
        In the order of ``items``.

    Raises
    ------
    Exception
        What ``function`` raised, with a note that says for which item.
    InputError
        The function cannot be sent to another process.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2, -3])
    [1, 2, 3]
    >>> with joblib.parallel_config(backend="threading", n_jobs=2):
    ...     parallel_map(str.upper, "abc")
    ['A', 'B', 'C']
    """
    if n_jobs == 0:
        raise OptionError("no workers", expected="n_jobs of 1 or more, -1 for every core, or None", got=n_jobs)
    work = list(items)
    workers = joblib.Parallel(n_jobs=n_jobs, return_as="generator" if progress else "list")
    backend, _ = get_active_backend()
    if workers.n_jobs == 1 or len(work) < 2:  # joblib would still go to a cluster
        results: Any = (_call(function, item, index, len(work)) for index, item in enumerate(work))
    elif hasattr(backend, "client"):
        results = _on_dask(backend, _Shipped(function), work)
    else:
        call = function if getattr(backend, "supports_sharedmem", False) else _Shipped(function)
        results = workers(joblib.delayed(_call)(call, item, index, len(work)) for index, item in enumerate(work))
    if isinstance(results, list):
        return results
    with closing(results):  # an interruption stops the workers now, not when the generator is collected
        return list(progress_bar(results, total=len(work), description=description, enabled=progress))


def _call(function: Callable[[Item], Value], item: Item, index: int, n_items: int) -> Value:
    try:
        return function(item)
    except Exception as error:
        if n_items > 1:
            error.add_note(_place(index, n_items))
        raise


def _place(index: int, n_items: int) -> str:
    return f"while working on item {index} of {n_items} (counted from 0)"


class _Shipped(Generic[Item, Value]):
    """A function on its way to other processes, written down once.

    joblib puts an array as large as a model where all processes of this machine read it, and a Dask cluster hands it
    from worker to worker; either would send a plain function with every item.
    """

    def __init__(self, function: Callable[[Item], Value]) -> None:
        self._key = uuid4().hex
        try:
            self._content: npt.NDArray[np.uint8] = np.frombuffer(cloudpickle.dumps(function), np.uint8)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise InputError(
                "the work cannot be sent to another process",
                expected="a function, and models and arrays in it, that can be pickled",
                got=str(error),
                fix="work here with n_jobs=1, or in threads: joblib.parallel_config(backend='threading', n_jobs=2)",
            ) from error

    def __call__(self, item: Item) -> Value:
        if getattr(_HELD, "key", None) != self._key:
            _HELD.key, _HELD.function = self._key, cloudpickle.loads(self._content.data)
        return _HELD.function(item)


_HELD = threading.local()
"""The function that a thread of a worker unpacked last: threads do not share a model, which has hooks while it runs."""


def _on_dask(backend: Any, function: _Shipped[Item, Value], work: Sequence[Item]) -> Iterator[Value]:
    """Yield the results, in order, of the workers of a Dask cluster.

    joblib's own way to Dask keeps what it ships on one worker, and fails when that worker is lost. Here the scheduler
    can hand out everything again.
    """
    from distributed import Future, as_completed

    backend.effective_n_jobs(-1)  # waits for the first worker, and raises where none comes
    client, name = backend.client, f"parallel_map-{uuid4().hex}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # once, and the scheduler is to keep it
        shipped = client.submit(_itself, function, key=f"{name}-function")
    todo = iter(enumerate(work))
    running: dict[Future[Value], int] = {}

    def hand_out(n_items: int) -> list[Future[Value]]:
        new = {
            client.submit(_call, shipped, item, index, len(work), key=(name, index)): index
            for index, item in islice(todo, n_items)
        }
        running.update(new)
        return list(new)

    found: dict[int, Value] = {}
    n_told = 0
    try:
        finished = as_completed(hand_out(_MOST_WAITING))
        for future in finished:
            index = running[future]
            found[index] = _result(future, index, len(work))
            del running[future]
            finished.update(hand_out(1))
            while n_told in found:
                yield found.pop(n_told)
                n_told += 1
    finally:
        client.cancel(list(running), force=True)


def _itself(function: _Shipped[Item, Value]) -> _Shipped[Item, Value]:
    return function


def _result(future: Any, index: int, n_items: int) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:  # nobody was left to add the note
        error.add_note(f"{_place(index, n_items)}, which several workers did not survive: is their memory too small?")
        raise
