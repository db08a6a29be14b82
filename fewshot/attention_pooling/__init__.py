"""SAFE: the image tower's attention pooling, tuned to the classes."""
