"""The choices that torch lacks: initializers, parameter groups, schedules and losses. Whatever torch has is named in conf/ directly."""
