"""Signals, images and patterns of known fractal properties, seeded and in batches."""
