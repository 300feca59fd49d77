"""Energy landscapes from trajectories and from binary states, paths across them, and energies of symmetric networks."""
