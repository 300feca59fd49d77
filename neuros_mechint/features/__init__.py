"""Sparse autoencoders: trained on any model, evaluated, matched across models, and put back as sites."""
