"""Fractals: how signals, graphs and patterns look alike over scales; stimuli and losses made of the same."""
