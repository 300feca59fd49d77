"""A network trained under the constraints of a brain."""
