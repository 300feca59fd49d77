"""Circuits drawn: who excites and who inhibits whom."""
