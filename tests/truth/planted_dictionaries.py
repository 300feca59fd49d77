"""Dictionaries made by hand, and activations of known features."""

from __future__ import annotations

import warnings
from functools import cache

import torch

SEEDS = range(3)
N_TRUE, WIDTH = 32, 20


class HandMade(torch.nn.Module):
    """``features = relu(x E)``, ``x' = scale * features D``."""

    def __init__(self, decoder, scale=1.0):
        super().__init__()
        self.W_dec, self.scale = decoder, scale

    def encode(self, x):
        return torch.relu(x @ self.W_dec.T)

    def decode(self, feature_acts):
        return self.scale * feature_acts @ self.W_dec


def generator(seed):
    return torch.Generator().manual_seed(seed)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def orthonormal(n_rows, width, seed=0):
    return torch.linalg.qr(gaussian(width, width, seed=seed)).Q[:n_rows]


def sparse_codes(n_rows, n_features, p=0.1, seed=0):
    active = torch.rand(n_rows, n_features, generator=generator(seed)) < p
    return active * (0.5 + torch.rand(n_rows, n_features, generator=generator(100 + seed)))


@cache
def planted(seed):
    """True directions, and SAELens SAEs trained on data made of them: TopK, gated and dense, gated and sparse."""
    import sae_lens
    from sae_lens import synthetic

    settings = {
        "topk": sae_lens.TopKTrainingSAEConfig(k=2, d_in=WIDTH, d_sae=N_TRUE),
        "dense": sae_lens.GatedTrainingSAEConfig(l1_coefficient=0.02, d_in=WIDTH, d_sae=N_TRUE),
        "gated": sae_lens.GatedTrainingSAEConfig(l1_coefficient=1.0, d_in=WIDTH, d_sae=N_TRUE),
    }
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        dictionary = synthetic.FeatureDictionary(num_features=N_TRUE, hidden_dim=WIDTH)
        activity = synthetic.ActivationGenerator(num_features=N_TRUE, firing_probabilities=0.06)
        saes = {}
        for name, config in settings.items():
            one = sae_lens.TopKTrainingSAE if name == "topk" else sae_lens.GatedTrainingSAE
            saes[name] = one(config)
            synthetic_training(saes[name], dictionary, activity)
        with torch.no_grad():
            held_out = dictionary(activity.sample(4000))
    return dictionary.feature_vectors.detach(), saes, held_out


def synthetic_training(sae, dictionary, activity):
    from sae_lens import synthetic

    synthetic.train_toy_sae(sae, dictionary, activity, training_samples=300 * 512, batch_size=512, lr=3e-3)
