"""A study: its file and overrides, and the networks that they define."""
