"""Fractal dimensions of the graph of a signal."""
