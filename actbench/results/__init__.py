"""The result folder: the only code that touches its files."""
