"""bakeoff: fair comparisons of initializers, activations, optimizers and losses on AlexNet and VGG."""
