"""Image sources, splits, the in-memory batch pipeline and the LightningDataModule."""
