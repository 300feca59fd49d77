"""A TransformerLens script as its documentation teaches it: cache, logit lens, hooks, ablation, patching.

It knows nothing of neuros-mechint. Only the model differs from the demos: it is built in memory, not downloaded.
"""

from __future__ import annotations

from functools import partial

import torch
import transformer_lens.utils as utils
from transformer_lens import ActivationCache, HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.hook_points import HookPoint

torch.set_grad_enabled(False)

config = HookedTransformerConfig(
    n_layers=2, d_model=32, n_ctx=16, d_head=8, n_heads=4, d_mlp=48, d_vocab=24, act_fn="gelu_new",
    normalization_type="LN", seed=3, device="cpu",
)  # fmt: skip
model = HookedTransformer(config)
for parameter in model.parameters():
    parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))

generator = torch.Generator().manual_seed(5)
tokens = torch.randint(24, (4, 7), generator=generator)
corrupted_tokens = tokens.clone()
corrupted_tokens[:, 2] = (tokens[:, 2] + 5) % 24
answer_tokens = torch.stack([torch.tensor([3, 8, 11, 19]), torch.tensor([4, 2, 20, 7])], dim=1)

# -- logits, cache and direct logit attribution --------------------------------------------------------------------
original_logits, cache = model.run_with_cache(tokens)


def logits_to_ave_logit_diff(logits, answer_tokens=answer_tokens, per_prompt=False):
    final_logits = logits[:, -1, :]
    answer_logits = final_logits.gather(dim=-1, index=answer_tokens)
    answer_logit_diff = answer_logits[:, 0] - answer_logits[:, 1]
    return answer_logit_diff if per_prompt else answer_logit_diff.mean()


original_average_logit_diff = logits_to_ave_logit_diff(original_logits)
answer_residual_directions = model.tokens_to_residual_directions(answer_tokens)
logit_diff_directions = answer_residual_directions[:, 0] - answer_residual_directions[:, 1]


def residual_stack_to_logit_diff(residual_stack: torch.Tensor, cache: ActivationCache) -> torch.Tensor:
    scaled = cache.apply_ln_to_stack(residual_stack, layer=-1, pos_slice=-1)
    return torch.einsum("...bd,bd->...", scaled, logit_diff_directions) / len(tokens)


accumulated_residual, labels = cache.accumulated_resid(layer=-1, incl_mid=True, pos_slice=-1, return_labels=True)
logit_lens_logit_diffs = residual_stack_to_logit_diff(accumulated_residual, cache)
per_head_residual = cache.stack_head_results(layer=-1, pos_slice=-1)
per_head_logit_diffs = residual_stack_to_logit_diff(per_head_residual, cache)
attention_pattern = cache["pattern", 1, "attn"]

# -- ablation with a hook ------------------------------------------------------------------------------------------
layer_to_ablate, head_index_to_ablate = 0, 2


def head_ablation_hook(value: torch.Tensor, hook: HookPoint) -> torch.Tensor:
    value[:, :, head_index_to_ablate, :] = 0.0
    return value


ablated_logits = model.run_with_hooks(
    tokens, fwd_hooks=[(utils.get_act_name("v", layer_to_ablate), head_ablation_hook)]
)

# -- activation patching -------------------------------------------------------------------------------------------
corrupted_logits, corrupted_cache = model.run_with_cache(corrupted_tokens)
corrupted_average_logit_diff = logits_to_ave_logit_diff(corrupted_logits)


def patch_residual_component(corrupted_residual_component, hook, pos, clean_cache):
    corrupted_residual_component[:, pos, :] = clean_cache[hook.name][:, pos, :]
    return corrupted_residual_component


def normalize_patched_logit_diff(patched_logit_diff):
    return (patched_logit_diff - corrupted_average_logit_diff) / (
        original_average_logit_diff - corrupted_average_logit_diff
    )


patched_residual_stream_diff = torch.zeros(model.cfg.n_layers, tokens.shape[1])
for layer in range(model.cfg.n_layers):
    for position in range(tokens.shape[1]):
        hook_fn = partial(patch_residual_component, pos=position, clean_cache=cache)
        patched_logits = model.run_with_hooks(
            corrupted_tokens, fwd_hooks=[(utils.get_act_name("resid_pre", layer), hook_fn)], return_type="logits"
        )
        patched_logit_diff = logits_to_ave_logit_diff(patched_logits, answer_tokens)
        patched_residual_stream_diff[layer, position] = normalize_patched_logit_diff(patched_logit_diff)

patched_head_z_diff = normalize_patched_logit_diff(
    patching.get_act_patch_attn_head_out_all_pos(model, corrupted_tokens, cache, logits_to_ave_logit_diff)
)
