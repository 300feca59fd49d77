"""Limit cycles of flows and periodic orbits of maps, with their Floquet multipliers."""
