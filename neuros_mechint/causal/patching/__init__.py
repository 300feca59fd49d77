"""Activation patching: activations of one run put into another."""
