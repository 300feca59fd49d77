"""Inference of representational similarity analysis: what holds beyond these subjects and these conditions."""
