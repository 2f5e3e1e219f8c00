"""Reports on result folders: a ranking of cells with intervals over seeds, and where units died. Never imports torch."""
