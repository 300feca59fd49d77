"""Power over frequency, by three estimators, and the slope of its power law."""
