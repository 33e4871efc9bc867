"""Training of one run: the LightningModule, its callbacks and Trainer, its processes, and reproduction."""
