"""Latent circuits: few nodes whose wiring explains activity and behaviour, fitted, doubted and perturbed."""
