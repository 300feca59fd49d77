"""What two sources tell together, apart and twice."""
