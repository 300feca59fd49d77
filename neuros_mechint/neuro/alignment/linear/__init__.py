"""Linear maps between two sets of responses to the same stimuli: encoding models, shared spaces, similarity."""
