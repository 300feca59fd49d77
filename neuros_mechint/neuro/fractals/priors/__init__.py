"""Losses that pull the activity of a network towards a power law, a dimension or a scaling while it is trained."""
