"""Sites, activations, edits, results: what everything else is built on."""
