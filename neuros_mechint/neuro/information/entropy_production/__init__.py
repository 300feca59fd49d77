"""Entropy production: how far a process is from running the same way backwards in time."""
