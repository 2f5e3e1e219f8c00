"""A network of a user's own, measured as actbench measures its own."""
