"""Minima, their basins, and which of them are certain."""
