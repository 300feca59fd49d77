"""Which stimulus drives a unit most."""
