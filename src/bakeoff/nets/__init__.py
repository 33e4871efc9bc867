"""Nets: plain torch modules that take factories and know nothing of experiments."""
