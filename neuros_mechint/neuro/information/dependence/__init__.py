"""Mutual information, of two variables and given a third."""
