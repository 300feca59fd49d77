"""Control of linear and linearised systems: Gramians, energies, controllability of single units."""
