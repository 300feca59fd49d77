"""Give the sites of one block their names, or the reason why a name is withheld."""

from __future__ import annotations

from neuros_mechint.adapters.inference.attention import attention_sites
from neuros_mechint.adapters.inference.mlp import mlp_sites
from neuros_mechint.adapters.inference.residual import Branch, residual_branches
from neuros_mechint.adapters.inference.stacks import Block
from neuros_mechint.adapters.taps import Tap

Found = dict[str, Tap]
Reasons = dict[str, str]

NAMES = (
    *("resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "mixer_out", "resid_mid"),
    *("cross_q", "cross_k", "cross_v", "cross_pattern", "cross_z", "cross_attn_out", "resid_mid_cross"),
    *("pre", "post", "mlp_out", "resid_post"),
)
"""Every name a block can have, in order of execution."""


def block_sites(block: Block) -> tuple[Found, Reasons]:
    """Return the proven sites of a block under their full names, and the reasons for the missing ones."""
    found, reasons = attention_sites(block)
    found |= {
        "resid_pre": block.entry.tap("input of the block"),
        "resid_post": block.exit.tap("output of the block"),
    }
    branches = residual_branches(block)
    if branches is None:
        why = "the block's output is not its input plus outputs of its modules"
        reasons |= dict.fromkeys(("attn_out", "resid_mid", "mlp_out", "mixer_out", "pre", "post"), why)
    else:
        _name_branches(block, branches, found, reasons)
    offered = {f"{block.name}{name}": found[name] for name in NAMES if name in found}
    withheld = {
        f"{block.name}{name}": reasons.get(name) or _default_reason(name, block)
        for name in _expected_names(block)
        if name not in found
    }
    return offered, withheld


def _name_branches(block: Block, branches: list[Branch], found: Found, reasons: Reasons) -> None:
    _name_attention(branches, found, reasons)
    for kind in ("mlp", "mixer"):
        same = [branch for branch in branches if branch.kind == kind]
        if len(same) == 1:
            found[f"{kind}_out"] = same[0].event.tap(_sum_check(same[0], f"{kind}_out"))
        elif same:
            reasons[f"{kind}_out"] = f"{len(same)} branches of this kind in one block: the name would be ambiguous"
    if "mlp_out" in found:
        (mlp,) = (branch for branch in branches if branch.kind == "mlp")
        taps, reason = mlp_sites(block, mlp)
        found |= taps
        reasons |= {"pre": reason, "post": reason} if reason else {}


def _name_attention(branches: list[Branch], found: Found, reasons: Reasons) -> None:
    attention = [branch for branch in branches if branch.kind == "attention"]
    for branch, name in zip(attention, ("attn_out", "cross_attn_out"), strict=False):
        found[name] = branch.event.tap(_sum_check(branch, name))
    if len(attention) > 1 and attention[1].followed:
        found["resid_mid_cross"] = _sum_tap(attention[1], "resid_mid_cross == resid_mid + cross_attn_out")
    if not branches:
        return
    first = branches[0]
    if first.kind != "mlp" and first.followed:
        added = "attn_out" if first.kind == "attention" else "mixer_out"
        found["resid_mid"] = _sum_tap(first, f"resid_mid == resid_pre + {added}")
    elif len(branches) == 1:
        reasons["resid_mid"] = "the block has one branch only: resid_mid is resid_post"
    elif first.followed:
        reasons["resid_mid"] = "the MLP comes before attention in this block"
    else:
        reasons["resid_mid"] = "attention and MLP run in parallel: no such tensor"


def _sum_check(branch: Branch, name: str) -> str:
    norm = ", through a norm" if branch.normed else ""
    return f"the next residual stream is the one before + {name}{norm}"


def _sum_tap(branch: Branch, check: str) -> Tap:
    tap = branch.tap_of_sum
    return Tap(tap.path, tap.side, tap.key, tap.call, None, tap.flat, tap.base, check, tap.dims)


def _expected_names(block: Block) -> list[str]:
    """Names a user would look for in this block."""
    n_patterns = len(block.softmaxes)
    unexpected = {"mixer_out"} if n_patterns else set()
    return [
        name
        for name in NAMES
        if name not in unexpected and (n_patterns > 1 or not ("cross_" in name or name.endswith("_cross")))
    ]


def _default_reason(name: str, block: Block) -> str:
    attention_names = ("q", "k", "v", "z", "pattern", "attn_out")
    if name in attention_names and not block.softmaxes:
        return "no softmax attention can be seen in this block"
    if name in ("mlp_out", "pre", "post"):
        return "the block adds no branch that treats each position by itself (no MLP)"
    return "the residual stream has no such step in this block"
