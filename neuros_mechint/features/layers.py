"""One autoencoder per site, trained from a single pass over the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.parallel import parallel_map
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.stores.store import ActivationStore
from neuros_mechint.features.architectures import ARGUMENT_NAMES
from neuros_mechint.features.sparse_autoencoder import TRAINING_SETTINGS, SparseAutoencoder


def fit_layers(
    model: Adapter,
    inputs: Any,
    sites: str | Sequence[str],
    n_features: int | Mapping[str, int],
    store: str | PathLike[str],
    capture_batch_size: int | None = 32,
    n_jobs: int | None = None,
    seed: SeedLike = 0,
    **settings: Any,
) -> dict[str, SparseAutoencoder]:
    """Train an autoencoder at every site: the model runs once, and all train from one store on disk.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``.
    inputs : inputs of the model
    sites : str or sequence of str
        Names or patterns, such as ``"blocks.*.resid_post"``.
    n_features : int or mapping of str to int
        Features of each autoencoder, or of each site.
    store : path
        Folder for the activations. A capture that was interrupted is continued, a finished one is used again.
    capture_batch_size : int, optional
        Samples per call of the model: what bounds the memory.
    n_jobs : int or None
        Autoencoders trained at the same time, see `neuros_mechint.core.parallel.parallel_map`. Starting a worker takes
        some 10 s, so that it pays for trainings that take longer.
    seed : int or numpy.random.Generator
        Gives each autoencoder a seed of its own.
    **settings
        For every `SparseAutoencoder`: ``architecture``, ``k``, ``epochs`` and so on.

    Returns
    -------
    dict of str to SparseAutoencoder
        By site, in order of execution. `match_features` compares two of them.

    Raises
    ------
    InputError, SiteError, OptionError, StorageError

    Examples
    --------
    >>> import tempfile, torch
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8)))
    >>> x = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saes = fit_layers(model, x, ["0", "2"], 16, folder + "/store", k=2, epochs=1)
    >>> list(saes), saes["2"].site
    (['0', '2'], '2')
    """
    if not isinstance(model, Adapter) or sites is None or store is None:
        raise InputError(
            "autoencoders of layers need a model, sites and a folder",
            expected="nm.adapt(model), names or patterns of sites, and a path for their activations",
            got=f"{type(model).__name__}, sites={sites!r}, store={store!r}",
        )
    # what is wrong with the settings is known before the model runs
    for width in n_features.values() if isinstance(n_features, Mapping) else [n_features]:
        _autoencoder(width, settings)
    captured = model.capture(inputs, sites, batch_size=capture_batch_size, to=store)
    assert isinstance(captured, ActivationStore)
    names = list(captured)
    widths = n_features if isinstance(n_features, Mapping) else dict.fromkeys(names, n_features)
    if set(widths) != set(names):
        raise InputError("n_features is not given for these sites", expected=", ".join(names), got=", ".join(widths))
    seeds = dict(zip(names, generator(seed).integers(2**31, size=len(names)).tolist(), strict=True))
    train = partial(_fit_one, captured.path, widths, seeds, settings)
    return dict(zip(names, parallel_map(train, names, n_jobs, progress=True, description="autoencoders"), strict=True))


def _fit_one(
    path: Path | str, widths: Mapping[str, int], seeds: Mapping[str, int], settings: Mapping[str, Any], site: str
) -> SparseAutoencoder:
    store = ActivationStore.open(path)  # each worker opens it: what it holds does not travel
    return _autoencoder(widths[site], settings, seed=seeds[site]).fit(store, site)


def _autoencoder(n_features: int, settings: Mapping[str, Any], **more: Any) -> SparseAutoencoder:
    known = [*ARGUMENT_NAMES, *(name for name in TRAINING_SETTINGS if name != "seed")]
    for name in settings:
        check_option("setting of SparseAutoencoder", name, known)
    return SparseAutoencoder(n_features, **{"progress": False, **settings, **more})
