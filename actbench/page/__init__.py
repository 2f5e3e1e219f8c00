"""The report as one HTML file that works offline: figures, tables and words of result folders. Never imports torch."""
