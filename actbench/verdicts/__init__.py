"""What figures say: intervals, verdicts on claims, gates, and what theory predicts. Reads tables only, never torch."""
