"""What each feature of a dictionary is about: where it fires, what it does to the output, which others are like it."""
