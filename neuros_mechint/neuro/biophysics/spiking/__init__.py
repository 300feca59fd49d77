"""Networks of spiking neurons that learn by gradients."""
