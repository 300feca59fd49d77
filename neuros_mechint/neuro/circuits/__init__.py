"""Circuits read from activity: convolutional sparse codes, latent circuits, motifs."""
