"""Activations in memory: torch inside, labelled axes, xarray out; TransformerLens caches in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.labels import LabelledTensors, as_numpy, check_dims, describe_activation
from neuros_mechint.core.site_names import canonical_name, transformer_lens_name
from neuros_mechint.core.sites import SiteReference

if TYPE_CHECKING:
    from transformer_lens import ActivationCache

    from neuros_mechint.core.provenance import Provenance

_PER_UNIT = ("sample", "position", "unit")
_PER_HEAD = ("sample", "position", "head", "unit")
_PER_KV_HEAD = ("sample", "position", "kv_head", "unit")
_PER_PAIR = ("sample", "head", "query", "key")
# Axes of TransformerLens's hook points, by their whole name or its last part without `hook_`.
_TRANSFORMER_LENS_DIMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("embed", "pos_embed", "ln_final", "resid_pre", "resid_mid", "resid_post"), _PER_UNIT),
    **dict.fromkeys(("attn_out", "mlp_out", "mlp_in", "pre", "post", "pre_linear"), _PER_UNIT),
    **dict.fromkeys(("normalized", "scale", "logits", "unembed.hook_in"), _PER_UNIT),
    **dict.fromkeys(("q", "z", "rot_q", "result", "attn_in", "q_input"), _PER_HEAD),
    **dict.fromkeys(("k", "v", "rot_k", "k_input", "v_input"), _PER_KV_HEAD),
    **dict.fromkeys(("pattern", "attn_scores"), _PER_PAIR),
}


class Activations(LabelledTensors):
    """Activations by site, in order of capture, with named axes.

    The tensors are detached but not copied. NaN and infinities are carried as they came: whoever computes
    with them decides.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        One tensor per site, e.g. ``"blocks.1.resid_post"`` or ``"blocks.1.z[head=2]"``.
    dims : mapping of str to tuple of str
        Names of the axes of each, e.g. ``("sample", "position", "unit")``.
    coords : mapping of str to sequence, optional
        Labels along named axes, e.g. ``{"sample": stimulus_names}``, for every site that has the axis.
    provenance : Provenance, optional
        Where the activations come from.
    attention_mask : torch.Tensor of shape (n_samples, n_positions), optional
        False where a sequence is padded: `matrix` leaves these positions out.

    Raises
    ------
    InputError
        A value that is no tensor, axes that are not all named, or labels of the wrong number.

    Examples
    --------
    >>> resid = {"blocks.0.resid_pre": torch.zeros(4, 5, 8)}
    >>> acts = Activations(resid, {"blocks.0.resid_pre": ("sample", "position", "unit")})
    >>> acts
    Activations: 1 site, 640 bytes
      site                axes                    shape      dtype
      blocks.0.resid_pre  sample, position, unit  (4, 5, 8)  float32
    >>> acts.matrix("blocks.0.hook_resid_pre").shape
    torch.Size([20, 8])
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        dims: Mapping[str, Sequence[str]],
        coords: Mapping[str, Sequence[Any]] | None = None,
        provenance: Provenance | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> None:
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor):
                raise InputError(
                    f"the activation at {name!r} is no tensor",
                    expected="a torch.Tensor",
                    got=type(tensor).__name__,
                )
        axes = {name: check_dims(name, dims.get(name), tensor.ndim) for name, tensor in tensors.items()}
        super().__init__(axes, provenance)
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self.coords = {axis: list(labels) for axis, labels in (coords or {}).items()}
        self._check_coords()
        self._attention_mask = attention_mask

    def _check_coords(self) -> None:
        for axis, labels in self.coords.items():
            having = [name for name in self if axis in self._dims[name]]
            sizes = {name: self._tensors[name].shape[self._dims[name].index(axis)] for name in having}
            wrong = next((name for name, size in sizes.items() if size != len(labels)), None)
            if wrong or not sizes:
                raise InputError(
                    f"the labels of axis {axis!r} do not fit",
                    expected=f"{sizes[wrong]} labels, as at {wrong!r}" if wrong else "an axis that a site has",
                    got=f"{len(labels)} labels",
                    fix="give labels only for axes of the same size at every site",
                )

    @classmethod
    def concatenate(cls, pieces: Iterable[Activations]) -> Activations:
        """Return the batches ``pieces`` as one, joined along "sample".

        Parameters
        ----------
        pieces : iterable of Activations
            The same sites with the same axes; only a site indexed by sample, such as ``"embed[sample=3]"``,
            may be missing from batches that do not hold that sample.

        Returns
        -------
        Activations
            With the provenance of the first piece.

        Raises
        ------
        InputError
            No pieces, or pieces that do not fit together.

        Examples
        --------
        >>> half = Activations({"embed": torch.zeros(2, 3)}, {"embed": ("sample", "unit")})
        >>> Activations.concatenate([half, half])["embed"].shape
        torch.Size([4, 3])
        """
        batches = list(pieces)
        if not batches:
            raise InputError("nothing to concatenate", expected="at least one batch of activations", got="none")
        if len(batches) == 1:
            return batches[0]
        dims = {name: batch.dims(name) for batch in batches for name in batch}
        tensors = {name: _join(name, axes, batches) for name, axes in dims.items()}
        masks = [batch.attention_mask for batch in batches if batch.attention_mask is not None]
        mask = torch.cat(masks) if len(masks) == len(batches) else None
        return cls(tensors, dims, _join_coords(batches), batches[0].provenance, mask)

    @classmethod
    def from_transformer_lens(cls, cache: ActivationCache) -> Activations:
        """Return a TransformerLens cache as activations, under canonical names.

        Parameters
        ----------
        cache : transformer_lens.ActivationCache
            From ``model.run_with_cache``. Where its batch axis was removed, the result has one sample.

        Returns
        -------
        Activations
            Axes of other than TransformerLens's usual hook points are named ``axis_1``, ``axis_2``, ...
        """
        tensors: dict[str, torch.Tensor] = {}
        dims: dict[str, tuple[str, ...]] = {}
        for native, value in cache.cache_dict.items():
            tensor = value if cache.has_batch_dim else value[None]
            name = canonical_name(native)
            # A bridge lists some tensors under two names; the second keeps its own.
            name = native if name in tensors else name
            tensors[name], dims[name] = tensor, _transformer_lens_dims(name, tensor.ndim)
        return cls(tensors, dims)

    def to_transformer_lens(self, model: Any = None) -> ActivationCache:
        """Return these activations as a TransformerLens cache.

        Parameters
        ----------
        model : transformer_lens.HookedTransformer, optional
            Needed by those methods of the cache that use weights, such as ``logit_attrs``.

        Returns
        -------
        transformer_lens.ActivationCache
            Under TransformerLens's names; raw module paths keep theirs.

        Raises
        ------
        SiteError
            A site is only a part, such as ``"blocks.1.z[head=2]"``, for which TransformerLens has no name.
        """
        from transformer_lens import ActivationCache

        for name in self:
            if SiteReference.parse(name).index:
                raise SiteError(
                    f"TransformerLens has no name for the part {name!r} of a site",
                    fix=f"capture the whole site {SiteReference.parse(name).name!r}",
                )
        return ActivationCache({transformer_lens_name(name): self[name] for name in self}, model)

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Activations:
        """Return these activations on another device or in another precision."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        moved = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self._tensors.items()}
        return Activations(moved, self._dims, self.coords, self.provenance, self.attention_mask)

    def select(self, pattern: str | Iterable[str]) -> Activations:
        """Return the sites that match one or more patterns, in the order of capture.

        Parameters
        ----------
        pattern : str or iterable of str
            Names; ``*`` stands for anything.

        Raises
        ------
        SiteError
            A pattern matches nothing.

        Examples
        --------
        >>> both = {"embed": torch.zeros(1, 2), "blocks.0.z": torch.ones(1, 2)}
        >>> list(Activations(both, dict.fromkeys(both, ("sample", "unit"))).select("blocks.*"))
        ['blocks.0.z']
        """
        patterns = [pattern] if isinstance(pattern, str) else list(pattern)
        chosen = {name for one in patterns for name in self.matching(one)}
        tensors = {name: tensor for name, tensor in self._tensors.items() if name in chosen}
        axes = {axis for name in tensors for axis in self._dims[name]}
        coords = {axis: labels for axis, labels in self.coords.items() if axis in axes}
        return Activations(tensors, self._dims, coords, self.provenance, self.attention_mask)

    def with_provenance(self, provenance: Provenance) -> Activations:
        """Return the same activations with another record of where they come from."""
        return Activations(self._tensors, self._dims, self.coords, provenance, self.attention_mask)

    def with_attention_mask(self, attention_mask: torch.Tensor | None) -> Activations:
        """Return the same activations, of sequences that are padded where the mask is false."""
        return Activations(self._tensors, self._dims, self.coords, self.provenance, attention_mask)

    def with_labels(self, **labels: Sequence[Any]) -> Activations:
        """Return the same activations with labels along axes, so that they can be joined with recordings by label.

        Parameters
        ----------
        **labels
            One label per entry: ``sample=["face", "car"]``. Axes that are not named keep theirs.

        Raises
        ------
        InputError
            Other numbers of labels than entries, or an axis that no site has.

        Examples
        --------
        >>> acts = Activations({"embed": torch.zeros(2, 3)}, {"embed": ("sample", "unit")})
        >>> acts.with_labels(sample=["face", "car"]).xarray("embed").sample.values.tolist()
        ['face', 'car']
        """
        coords = {**self.coords, **labels}
        return Activations(self._tensors, self._dims, coords, self.provenance, self.attention_mask)

    def xarray(self, name: str) -> xr.DataArray:
        """Return one site as a labelled array in the memory of the CPU.

        Parameters
        ----------
        name : str
            The site.

        Returns
        -------
        xarray.DataArray
            Half precision becomes float32, which its attribute ``note`` then says.
        """
        name = self.resolve(name)
        tensor, dims = self._tensors[name], self._dims[name]
        coords = {axis: labels for axis, labels in self.coords.items() if axis in dims}
        attributes = describe_activation(name, tensor.dtype, self.provenance)
        return xr.DataArray(as_numpy(tensor), coords=coords, dims=dims, name=name, attrs=attributes)

    def _load(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def _mask(self, samples: slice) -> torch.Tensor | None:
        return None if self._attention_mask is None else self._attention_mask[samples]

    def _layout(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        return tuple(self._tensors[name].shape), self._tensors[name].dtype


def _join(name: str, dims: tuple[str, ...], batches: Sequence[Activations]) -> torch.Tensor:
    """Return one site of all batches, joined along its samples."""
    held = [batch for batch in batches if name in batch]
    if len(held) < len(batches) and "sample" not in SiteReference.parse(name).index:
        raise InputError(
            f"site {name!r} is missing from {len(batches) - len(held)} of {len(batches)} batches",
            expected="the same sites in every batch",
            fix="capture the same sites in every batch, or keep the common ones with .select([...])",
        )
    tensors = [batch[name] for batch in held]
    if len(tensors) == 1:
        return tensors[0]
    layouts = {(batch.dims(name), _without_samples(batch.dims(name), batch[name].shape)) for batch in held}
    if len(layouts) > 1 or "sample" not in dims:
        raise InputError(
            f"the batches of {name!r} do not fit together",
            expected="the same axes, 'sample' among them, and the same sizes along all others",
            got="; ".join(f"({', '.join(b.dims(name))}) of shape {tuple(b[name].shape)}" for b in held[:3]),
            fix="pad sequences to one length, or analyse each length on its own",
        )
    return torch.cat(tensors, dim=dims.index("sample"))


def _without_samples(dims: Sequence[str], shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for axis, size in zip(dims, shape, strict=True) if axis != "sample")


def _join_coords(batches: Sequence[Activations]) -> dict[str, list[Any]]:
    joined: dict[str, list[Any]] = {}
    for axis in dict.fromkeys(axis for batch in batches for axis in batch.coords):
        labels = [batch.coords.get(axis) for batch in batches]
        known = [one for one in labels if one is not None]
        if len(known) < len(labels) or (axis != "sample" and any(one != known[0] for one in known)):
            wish = "labels in every batch, or in none" if len(known) < len(labels) else "the same labels in every batch"
            raise InputError(f"the batches are labelled differently along {axis!r}", expected=wish)
        joined[axis] = [label for one in known for label in one] if axis == "sample" else known[0]
    return joined


def _transformer_lens_dims(name: str, n_axes: int) -> tuple[str, ...]:
    last_part = name.rpartition(".")[2].removeprefix("hook_")
    known = _TRANSFORMER_LENS_DIMS.get(name) or _TRANSFORMER_LENS_DIMS.get(last_part, ())
    return known if len(known) == n_axes else ("sample", *(f"axis_{axis}" for axis in range(1, n_axes)))
