"""Counterfactuals: what the output would be had a variable, a direction or a population been different."""
