"""A run of a study, from its options to its outcome."""
