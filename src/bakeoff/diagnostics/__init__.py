"""Measurements of a net before and during training: checks, layer statistics, and the rules that name what is wrong."""
