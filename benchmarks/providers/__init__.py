"""The ways to compute an op, one file an op, and the floors below which nothing can go."""
