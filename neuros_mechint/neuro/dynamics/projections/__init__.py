"""Projections of activity that say how it moves: slow features, rotations, and how tangled its paths are."""
