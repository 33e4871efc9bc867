"""What is worth knowing before hours are spent: one look at the data, the net, its gradients and its first steps."""
