"""Transfer entropy: information over time."""
