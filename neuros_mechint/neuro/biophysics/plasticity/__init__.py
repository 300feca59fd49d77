"""Plasticity: rules that change weights with activity, as a step of torch and as the text of a Brian2 synapse."""
