"""Neuroscience: methods that take labelled arrays, whatever model or brain they come from."""
