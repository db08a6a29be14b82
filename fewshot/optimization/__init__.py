"""Gradient descent on a few tensors: the training loop, the cache of trained parameters, the order of the shots."""
