"""Topology: holes of point clouds, and whether noise has them too."""
