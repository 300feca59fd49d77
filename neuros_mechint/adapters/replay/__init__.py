"""Run a stack of blocks from the middle: what an edit cannot change is taken from a recorded run."""
