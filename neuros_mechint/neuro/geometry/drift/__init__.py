"""Representational drift: what changes between sessions beyond noise, and beyond a turn of the same geometry."""
