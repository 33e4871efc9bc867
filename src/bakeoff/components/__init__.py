"""Choices that torch lacks: activations, initializers, losses, optimizers and schedules. Those that torch has are named in conf/."""
