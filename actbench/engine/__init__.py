"""Stacked training: networks, their training loop, and what is measured. torch is loaded here and above, nowhere below."""
