"""Uncertainty: intervals, tests, chance levels and what is left by it."""
