"""Pure functions, small classes and protocols that methods are built from."""
