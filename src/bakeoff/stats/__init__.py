"""Statistics on plain arrays: intervals, paired comparisons, alpha spending, power, ranks and aggregates."""
