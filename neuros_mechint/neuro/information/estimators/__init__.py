"""How dependence is estimated: normal distributions, nearest neighbours, bins, neural networks."""
