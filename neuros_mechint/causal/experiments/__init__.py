"""In-silico experiments on spiking and rate networks alike: populations, connections, f-I curves, phase responses."""
