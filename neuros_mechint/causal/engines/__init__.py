"""Ways to compute a metric under many interventions, all of which give the same numbers."""
