"""Circuits: sets of edges or nodes that carry a behaviour, found, run on their own, and judged."""
