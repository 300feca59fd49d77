"""How a network changes while it is trained: what to measure, when, and whether there were phases."""
