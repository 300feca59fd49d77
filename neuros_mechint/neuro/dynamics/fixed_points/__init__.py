"""Fixed and slow points of dynamical systems: found, told apart, linearised, and seen as lines or rings."""
