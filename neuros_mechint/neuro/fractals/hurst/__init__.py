"""The Hurst exponent, by rescaled ranges, detrended fluctuations or wavelets."""
