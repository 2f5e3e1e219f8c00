"""A study: its file, overrides, and the networks that come of them."""
