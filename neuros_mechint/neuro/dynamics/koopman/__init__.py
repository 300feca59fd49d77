"""Koopman operators from data: dynamic mode decomposition, with delays or dictionaries, and what to believe of it."""
