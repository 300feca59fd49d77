"""Whatever edits a model to find out what its parts do."""
