"""How alike two circuits are: in their connections, their spectra, and the roles of their nodes."""
