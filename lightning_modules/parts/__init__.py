"""Pure functions and small protocols that the methods are made of."""
