"""Representational similarity analysis: dissimilarities, their comparison, and inference."""
