"""Tables of pure functions that do not know each other: activations, inits, optimizers, losses, metrics."""
