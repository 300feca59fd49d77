"""The whole analysis of a system or of recorded trajectories, in one call."""
