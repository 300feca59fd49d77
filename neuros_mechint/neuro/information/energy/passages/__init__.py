"""How states move over a landscape: balance, and times from valley to valley."""
