"""Small patterns of connections that are more, or less, common than their number of connections explains."""
