"""Energies of trajectories: densities on a grid, their smoothing and their errors."""
