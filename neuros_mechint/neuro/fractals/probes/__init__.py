"""Metrics of signals at the sites of models: activations over time, and attention as graphs."""
