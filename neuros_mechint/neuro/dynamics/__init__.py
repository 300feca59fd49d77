"""Dynamical systems: simulation, stability, chaos, linear operators, control."""
