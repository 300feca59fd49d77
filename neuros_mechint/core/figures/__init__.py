"""The look of every figure."""
