"""What trains together, in which order and at what cost, before any tensor is made."""
