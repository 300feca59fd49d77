"""Activations on disk, written batch by batch."""
