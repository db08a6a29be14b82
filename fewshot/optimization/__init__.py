"""Gradient descent on a few tensors: the training loop, its cache, the order of the examples."""
