"""Criticality: avalanches, power laws, shape collapse, the crackling relation and the branching ratio."""
