"""Information through the layers of a model and over training."""
