"""Causal alignment: what the likeness of a model to a brain region owes to single parts of the model."""
