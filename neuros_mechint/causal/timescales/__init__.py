"""Time scales: what a model loses when a band of them is removed from its activations."""
