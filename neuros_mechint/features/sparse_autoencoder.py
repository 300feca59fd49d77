"""SparseAutoencoder: SAELens's architectures and trainer behind fit, encode and decode."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
import xarray as xr

from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.dictionary import check_dictionary
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.fingerprint import fingerprint_array, fingerprint_module
from neuros_mechint.core.random import generator, torch_generator
from neuros_mechint.features.architectures import (
    SAE_LENS_NAMES,
    SAVED_AS_JUMPRELU,
    check_arguments,
    training_sae,
)
from neuros_mechint.features.effects import FeatureEffects, feature_effects
from neuros_mechint.features.files import read_folder, write_folder
from neuros_mechint.features.observations import as_tensor, observations, only_site
from neuros_mechint.features.training import make_trainer, settle_threshold, train

TRAINING_SETTINGS = ("epochs", "batch_size", "learning_rate", "validation", "patience", "seed", "device", "progress")
_SAMPLE = 2048
"""Observations, drawn at random, by which activations are centred and scaled, and thresholds set."""


class SparseAutoencoder:
    """A sparse autoencoder, trained by SAELens.

    Activations are scaled for training, and centred where their mean is larger than what varies; both are folded into
    the weights afterwards. What is fitted is the form for inference, in which each row is encoded on its own: BatchTopK
    and Matryoshka, whose rows compete within a batch during training, are JumpReLU autoencoders from then on, with the
    threshold that leaves k features active on average.

    Parameters
    ----------
    n_features : int
        Features to learn.
    architecture : {"topk", "standard", "batchtopk", "jumprelu", "gated", "matching_pursuit", "matryoshka"}
    k : float, optional
        Features active in an observation (on average: batchtopk, matryoshka; at most: matching_pursuit); by default
        an eighth of the features, at most 32.
    sparsity : float, optional
        Weight of the sparsity penalty of standard, gated and jumprelu; 1.
    widths : sequence of int, optional
        Of matryoshka: features of each nested prefix; the last is ``n_features``.
    epochs : int
        How often each observation is seen.
    batch_size : int
    learning_rate : float
        Constant, and falling to a tenth over the last fifth of the steps.
    validation : float
        Share of observations held out: the last ones, at most about 8192.
    patience : int, optional
        Stop after so many of the 20 evaluations without a lower held-out loss, and keep the weights of the lowest;
        None never stops early, and keeps the last.
    seed : int
        Of the weights and of the order of observations.
    device : str or torch.device, optional
        Where to train, and where the fitted autoencoder is; by default where the activations are. Those of a store
        are read to the CPU, a batch at a time, and go on to the device.
    progress : bool

    Attributes
    ----------
    sae_ : sae_lens.SAE
        What was fitted, an ``nn.Module``.
    n_inputs_ : int
        Width of the activations.
    history_ : xarray.Dataset
        Training and held-out loss by step. This and ``dead_`` are of the training, and not saved.
    dead_ : numpy.ndarray of shape (n_features,)
        Which features were not active in the last tenth of the training steps, at most 1000.

    Raises
    ------
    OptionError
        An unknown architecture, or an argument that it does not use.
    InputError
        A value out of range.

    References
    ----------
    Gao et al. 2024, Scaling and evaluating sparse autoencoders, doi:10.48550/arXiv.2406.04093

    Examples
    --------
    >>> x = torch.randn(2048, 8, generator=torch.Generator().manual_seed(0))
    >>> sae = SparseAutoencoder(16, k=2, epochs=1, batch_size=256, progress=False).fit(x)
    >>> sae.encode(x).shape, int((sae.encode(x) > 0).sum(-1).max())
    (torch.Size([2048, 16]), 2)
    """

    sae_: Any

    def __init__(
        self,
        n_features: int,
        architecture: str = "topk",
        *,
        k: float | None = None,
        sparsity: float | None = None,
        widths: Sequence[int] | None = None,
        epochs: int = 20,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        validation: float = 0.1,
        patience: int | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
        progress: bool = True,
    ) -> None:
        self.n_features, self.architecture = whole("n_features", n_features), architecture
        check_arguments(architecture, self.n_features, k, sparsity, widths)
        self.k = None if k is None else number("k", k, 0, self.n_features)
        self.sparsity = sparsity
        self.widths = None if widths is None else [int(width) for width in widths]
        self.epochs, self.batch_size = whole("epochs", epochs), whole("batch_size", batch_size)
        self.learning_rate = float(number("learning_rate", learning_rate, 0, 1e30))
        self.validation = float(number("validation", validation, 0, 0.9))
        self.patience = None if patience is None else whole("patience", patience)
        self.seed, self.device, self.progress = seed, device, progress

    def __repr__(self) -> str:
        chosen = {name: value for name in ("k", "sparsity", "widths") if (value := getattr(self, name)) is not None}
        settings = "".join(f", {name}={value}" for name, value in chosen.items())
        fitted = "not fitted" if not hasattr(self, "sae_") else f"fitted on {self.n_inputs_} units of {self.site_}"
        return f"<{type(self).__name__} {self.n_features}, {self.architecture}{settings}: {fitted}>"

    def fit(self, activations: Any, site: str | None = None, checkpoint: str | PathLike[str] | None = None) -> Self:
        """Train on activations.

        Parameters
        ----------
        activations : array of shape (n_observations, n_inputs), Activations or ActivationStore
            A store is read piece by piece.
        site : str, optional
            Which site; needed where there are several.
        checkpoint : path, optional
            A folder to write the state of training to, and to go on from if it holds one.

        Returns
        -------
        SparseAutoencoder
            Itself.

        Raises
        ------
        InputError
            NaN, infinite or constant activations, or too few.
        SiteError
            No such site.
        StorageError
            A checkpoint that is damaged or of another training.
        """
        site = only_site(activations, site)
        data = observations(activations, site, self.validation, self.n_features)
        arguments = check_arguments(self.architecture, self.n_features, self.k, self.sparsity, self.widths)
        batch_size = min(self.batch_size, data.n_rows)
        n_steps = max(1, self.epochs * data.n_rows // batch_size)
        weights_seed, order_seed = (int(value) for value in generator(self.seed).integers(2**31, size=2))
        settings: dict[str, Any] = {
            "architecture": self.architecture, "n_features": self.n_features, "arguments": arguments,
            "n_steps": n_steps, "batch_size": batch_size, "learning_rate": self.learning_rate,
            "patience": self.patience, "seeds": [weights_seed, order_seed], "data": data.identity,
        }  # fmt: skip
        sample = next(data.batches(min(_SAMPLE, data.n_rows), order_seed))
        centre, scale = centre_and_scale(sample)
        device = data.held_out.device if self.device is None else torch.device(self.device)
        with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
            torch.set_rng_state(torch_generator(weights_seed).get_state())
            sae = training_sae(self.architecture, data.held_out.shape[1], self.n_features, arguments).to(device)
            batches = (batch - centre for batch in data.batches(batch_size, order_seed))
            trainer = make_trainer(sae, batches, n_steps, batch_size, self.learning_rate)
            trainer.activation_scaler.scaling_factor = scale
            history = train(
                trainer, (data.held_out - centre).to(device), patience=self.patience, settings=settings,
                progress=self.progress, checkpoint=None if checkpoint is None else Path(checkpoint),
            )  # fmt: skip
            self.dead_ = trainer.dead_neurons.cpu().numpy()
            if self.architecture in SAVED_AS_JUMPRELU:
                settle_threshold(sae, ((sample - centre) * scale).to(device))
            sae.fold_activation_norm_scaling_factor(scale)
            sae.b_dec.data += centre.to(device)
        check_converged(sae)
        self._describe(sae, activations, site, fingerprint_array(data.first))
        self._adopt(_for_inference(sae).to(device))
        self.history_ = _history(history)
        return self

    def _describe(self, sae: Any, activations: Any, site: str | None, data_fingerprint: str) -> None:
        """Write down what a saved autoencoder needs to be known by."""
        sae.cfg.metadata.hook_name = site
        sae.cfg.metadata.model_fingerprint = getattr(getattr(activations, "provenance", None), "model", None)
        sae.cfg.metadata.data_fingerprint = data_fingerprint
        sae.cfg.metadata.architecture = {"name": self.architecture, "k": self.k, "widths": self.widths}

    def _adopt(self, sae: Any) -> None:
        self.sae_ = sae.eval().requires_grad_(False)
        self.n_inputs_ = int(sae.cfg.d_in)
        self.site_ = sae.cfg.metadata.get("hook_name")
        self.model_fingerprint_ = sae.cfg.metadata.get("model_fingerprint")
        self.data_fingerprint_ = sae.cfg.metadata.get("data_fingerprint")

    def _fitted(self) -> Any:
        if not hasattr(self, "sae_"):
            raise InputError("the autoencoder is not fitted", fix="call fit(activations), or SparseAutoencoder.load")
        return self.sae_

    def _checked(self, values: Any, width: int) -> torch.Tensor:
        rows = values if isinstance(values, torch.Tensor) else as_tensor(values)
        if rows.ndim < 1 or rows.shape[-1] != width or rows.is_complex():
            expected = f"real numbers of shape (..., {width})"
            raise InputError("the width does not fit", expected=expected, got=f"{tuple(rows.shape)}, {rows.dtype}")
        return rows.to(self.decoder)

    def encode(self, x: Any) -> torch.Tensor:
        """Return the features ``(..., n_features)`` of activations ``(..., n_inputs)``, each row on its own."""
        sae = self._fitted()
        rows = self._checked(x, self.n_inputs_)
        return sae.encode(rows.reshape(-1, self.n_inputs_)).reshape(*rows.shape[:-1], self.n_features)

    def decode(self, feature_acts: Any) -> torch.Tensor:
        """Return the activations ``(..., n_inputs)`` that features ``(..., n_features)`` stand for."""
        return self._fitted().decode(self._checked(feature_acts, self.n_features))

    def reconstruct(self, x: Any) -> torch.Tensor:
        """Return ``decode(encode(x))``."""
        return self.decode(self.encode(x))

    def feature_effects(self, model: Adapter, inputs: Any, metric: Metric, **options: Any) -> FeatureEffects:
        """Return how much each feature matters to a metric: `neuros_mechint.feature_effects` at its own site."""
        self._fitted()
        return feature_effects(model, self, inputs, metric, **options)

    @property
    def decoder(self) -> torch.Tensor:
        """Directions of the features, ``(n_features, n_inputs)``."""
        return self._fitted().W_dec.detach()

    @property
    def encoder(self) -> torch.Tensor:
        """Weights of the encoder, ``(n_inputs, n_features)``; the decoder's transpose in matching pursuit."""
        return self._fitted().W_enc.detach()

    @property
    def site(self) -> str | None:
        """The site it was trained at."""
        self._fitted()
        return self.site_

    @property
    def model_fingerprint(self) -> str | None:
        """The model it was trained on."""
        self._fitted()
        return self.model_fingerprint_

    def fingerprint(self) -> str:
        """Return the identity of the weights."""
        return fingerprint_module(self._fitted())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the folder that SAELens's ``SAE.load_from_disk`` opens; warns where the architecture changes."""
        sae = self._fitted()
        if self.architecture in SAVED_AS_JUMPRELU:
            warnings.warn(f"{self.architecture} is saved, and reloads, as JumpReLU", stacklevel=2)
        write_folder(sae, Path(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open a folder written by `save` or by SAELens.

        Raises
        ------
        StorageError
            Missing or damaged.
        """
        return cls.from_sae_lens(read_folder(Path(path)))

    @classmethod
    def from_sae_lens(cls, sae: Any) -> Self:
        """Return a SAELens autoencoder, which is copied, as a fitted one.

        Raises
        ------
        InputError
            A `HierarchicalSAE` is asked for, and this one was not trained with nested widths.
        """
        own = check_dictionary(sae)
        if not (hasattr(sae, "cfg") and hasattr(sae, "W_dec")):
            raise InputError("this is no SAELens autoencoder", expected="sae_lens.SAE", got=type(sae).__name__)
        sae = copy.deepcopy(own)
        if hasattr(sae, "save_inference_model"):
            sae = _for_inference(sae)
        kinds = {theirs: ours for ours, theirs in SAE_LENS_NAMES.items()}
        now = sae.cfg.architecture()
        trained = sae.cfg.metadata.get("architecture")
        if not isinstance(trained, dict) or set(trained) != {"name", "k", "widths"}:  # of SAELens, or of others
            trained = {"name": kinds.get(now, now), "k": None, "widths": None}
        fitted = cls._blank(int(sae.cfg.d_sae), trained["widths"])
        fitted.architecture, fitted.k, fitted.widths = trained["name"], trained["k"], trained["widths"]
        fitted._adopt(sae)
        return fitted

    @classmethod
    def _blank(cls, n_features: int, widths: Sequence[int] | None) -> Self:
        """Return one that is not fitted."""
        return cls(n_features)


def centre_and_scale(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return what to subtract from rows, and the factor that gives the rest a mean length of the root of its width.

    A mean that is longer than what varies is subtracted: training would spend its steps on it. A shorter one is left
    for the bias of the decoder to find: a nested autoencoder that starts at the mean misses general concepts.

    Raises
    ------
    InputError
        Values too small or too large for single precision once they are squared.
    """
    exact = rows.double()
    mean = exact.mean(0)
    spread = float((exact - mean).norm(dim=-1).mean())
    if not 1e-15 < spread < 1e15:
        raise InputError(
            "the activations are too small or too large for single precision, or nearly constant",
            expected="distances from their mean between 1e-15 and 1e15",
            got=f"{spread:.3g}",
            fix="give them in other units",
        )
    centre = mean if float(mean.norm()) > spread else torch.zeros_like(mean)
    return centre.to(rows), rows.shape[1] ** 0.5 / float((exact - centre).norm(dim=-1).mean())


def check_converged(sae: Any) -> None:
    """Raise `InputError` where weights are not finite."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in sae.parameters()):
        raise InputError("the training diverged: weights are not finite", fix="choose a smaller learning_rate")


def _for_inference(sae: Any) -> Any:
    from sae_lens import SAE

    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        return SAE.load_from_disk(folder, device="cpu")


def _history(history: list[tuple[int, float, float]]) -> xr.Dataset:
    steps, training, held_out = zip(*history, strict=True)
    attrs = {"units": "1", "long_name": "training objective"}
    return xr.Dataset(
        {"training_loss": ("step", list(training), attrs), "held_out_loss": ("step", list(held_out), attrs)},
        {"step": list(steps)},
    )
