"""How much one variable tells of another: information between signals, in which direction, and what it is made of."""
