"""Brain alignment: how much of one system's representation another one shares, with ceilings and statistics."""
