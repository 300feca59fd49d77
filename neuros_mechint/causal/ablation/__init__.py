"""Ablation studies: what a model loses without its parts, with the uncertainty of each loss."""
