"""Sites, activations, edits, results: what everything else is built on."""

from neuros_mechint.core import errors as errors  # so that `nm.errors` is there whenever it is asked for
