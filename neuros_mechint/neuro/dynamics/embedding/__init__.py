"""Trajectories rebuilt from delayed copies of a signal, their neighbours and their recurrences."""
