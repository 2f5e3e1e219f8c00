"""Figures: charts of the tables, for the page, for papers and for notebooks. Never imports torch."""
