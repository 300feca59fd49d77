"""Energies of units that are on or off: the pairwise model and its valleys."""
