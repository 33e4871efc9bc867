"""Training: the LightningModule, durable checkpoints, and the conductor of one run."""
