"""Data sets: the table of them, and their downloads."""
