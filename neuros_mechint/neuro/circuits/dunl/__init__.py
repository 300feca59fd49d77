"""Kernels and events of spike trains and signals: deconvolution by unrolled networks, pursuit and Newton steps."""
