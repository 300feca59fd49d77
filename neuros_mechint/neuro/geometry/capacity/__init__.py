"""Capacity: how many manifolds a linear readout can tell apart, and which geometry limits it."""
