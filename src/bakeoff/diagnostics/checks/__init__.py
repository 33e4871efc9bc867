"""Checks of a run before it is trained: its data, its net at initialization, its gradients and its first steps."""
