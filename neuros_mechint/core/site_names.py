"""One name per site: what the names of TransformerLens and SAELens are here, and back."""

from __future__ import annotations

import re

_TRANSFORMER_LENS_BLOCK = re.compile(r"^((?:encoder\.|decoder\.)?blocks\.(?:\d+|\*))\.(attn\.|mlp\.)?hook_(\w+)$")
_TRANSFORMER_LENS_NAMES = {
    "hook_embed": "embed",
    "hook_pos_embed": "pos_embed",
    "ln_final.hook_out": "ln_final",  # its hook_normalized comes before the gain and bias: not the norm's output
    "unembed.hook_out": "logits",
}
_IN_ATTENTION = {"q", "k", "v", "z", "pattern", "attn_scores", "result", "rot_q", "rot_k"}
_IN_MLP = {"pre", "post", "pre_linear"}

DICTIONARY_PARTS = ("features", "error", "reconstruction")
"""What an activation falls into where a dictionary of features is spliced in: ``SITE.sae.features``, and so on."""
_OF_DICTIONARY = ".sae."
_SAE_LENS_PARTS = {
    ".hook_sae_acts_post": "features",
    ".hook_sae_error": "error",
    ".hook_sae_recons": "reconstruction",
}


def part_of_dictionary(name: str) -> tuple[str, str] | None:
    """Return the site and the part that the name of a place inside a dictionary means, or ``None`` for others.

    Examples
    --------
    >>> part_of_dictionary("blocks.0.resid_post.sae.features"), part_of_dictionary("blocks.0.resid_post")
    (('blocks.0.resid_post', 'features'), None)
    """
    site, dictionary, part = name.rpartition(_OF_DICTIONARY)
    return (site, part) if dictionary else None


def dictionary_site(site: str, part: str) -> str:
    """Return the name of a part of a dictionary at a site; `part_of_dictionary` reads it."""
    return f"{site}{_OF_DICTIONARY}{part}"


def canonical_name(name: str) -> str:
    """Return the canonical name of a site, given that name, TransformerLens's, or SAELens's inside a dictionary.

    Examples
    --------
    >>> canonical_name("blocks.0.attn.hook_z"), canonical_name("blocks.0.hook_resid_pre"), canonical_name("embed")
    ('blocks.0.z', 'blocks.0.resid_pre', 'embed')
    >>> canonical_name("blocks.*.mlp.hook_post"), canonical_name("blocks.0.attn.hook_out")
    ('blocks.*.post', 'blocks.0.attn.hook_out')
    >>> canonical_name("blocks.0.hook_resid_pre.hook_sae_acts_post")
    'blocks.0.resid_pre.sae.features'
    """
    for ending, part in _SAE_LENS_PARTS.items():
        if name.endswith(ending):
            return dictionary_site(canonical_name(name.removesuffix(ending)), part)
    inside = part_of_dictionary(name)
    if inside is not None:
        return dictionary_site(canonical_name(inside[0]), inside[1])
    block = _TRANSFORMER_LENS_BLOCK.match(name)
    if block is None:
        return _TRANSFORMER_LENS_NAMES.get(name, name)
    known = {"attn.": _IN_ATTENTION, "mlp.": _IN_MLP}.get(block[2] or "")
    # a bridge's `attn.hook_out` is no site of the block: only the names TransformerLens defines lose their module
    return name if known is not None and block[3] not in known else f"{block[1]}.{block[3]}"


def transformer_lens_name(name: str) -> str:
    """Return TransformerLens's name of a canonical site; other names come back as they are.

    Examples
    --------
    >>> transformer_lens_name("blocks.0.z"), transformer_lens_name("ln_final")
    ('blocks.0.attn.hook_z', 'ln_final.hook_out')
    """
    for theirs, ours in _TRANSFORMER_LENS_NAMES.items():
        if name == ours:
            return theirs
    inside = part_of_dictionary(name)
    if inside is not None:
        endings = {part: ending for ending, part in _SAE_LENS_PARTS.items()}
        return transformer_lens_name(inside[0]) + endings.get(inside[1], f"{_OF_DICTIONARY}{inside[1]}")
    block = re.match(r"^((?:encoder\.|decoder\.)?blocks\.\d+)\.(\w+)$", name)
    if not block:
        return name
    inner = "attn." if block[2] in _IN_ATTENTION else "mlp." if block[2] in _IN_MLP else ""
    return f"{block[1]}.{inner}hook_{block[2]}"
