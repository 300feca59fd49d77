"""Ways from valley to valley: of least energy, and of least action."""
