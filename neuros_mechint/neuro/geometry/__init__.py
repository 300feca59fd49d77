"""Geometry: how many dimensions representations and trajectories fill."""
