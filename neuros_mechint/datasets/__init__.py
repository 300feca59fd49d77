"""Small trained models that ship with the package, the tasks they solve, and public data."""
