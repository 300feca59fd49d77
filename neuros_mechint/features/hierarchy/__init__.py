"""Which features of a Matryoshka autoencoder are special cases of which, and where one swallows another."""
