"""Biophysics: spiking neurons, synapses, plasticity, networks that obey Dale's law."""
