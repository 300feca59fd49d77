"""How fixed points change with a parameter: branches, and where they begin, end, meet or change their stability."""
