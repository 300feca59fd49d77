"""The multifractal spectrum of signals, from detrended fluctuations or wavelet leaders."""
