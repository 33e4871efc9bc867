"""What happens around the training step, one subject a callback; `bakeoff.training.trainer.make_callbacks` lists them."""
