"""Sweeps: a question's plan, its trials, and the processes that run them."""
