"""Entropy and information of spike trains."""
