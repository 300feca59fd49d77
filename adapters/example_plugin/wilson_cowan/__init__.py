"""A Wilson-Cowan network in numpy, and its adapter for neuros-mechint."""

from wilson_cowan.network import WilsonCowanNetwork

__all__ = ["WilsonCowanNetwork"]
