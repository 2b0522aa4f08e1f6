"""HTTP clients: how they are built, what they accept, and the bounds of a response body."""
