"""Fractal dimension of graphs."""
