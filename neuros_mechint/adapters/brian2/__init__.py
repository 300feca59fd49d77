"""Brian2: networks as models with sites, and bridges from and to torch."""
