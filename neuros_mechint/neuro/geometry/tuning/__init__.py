"""Tuning manifolds: mean responses as a smooth function of a variable, judged on trials that were held out."""
