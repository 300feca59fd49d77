"""Geometry: dimensions, holes, capacity, curvature, distances and drift of representations and trajectories."""
