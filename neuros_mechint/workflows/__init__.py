"""Whole jobs a user comes for, composed of the rest of the package."""
