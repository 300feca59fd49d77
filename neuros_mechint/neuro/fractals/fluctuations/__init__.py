"""Detrended fluctuation analysis: how far the running sum of a signal strays from a trend, window by window."""
