"""Linear probe: logistic regression on frozen features, without class names."""

from fewshot.methods.linear_probe.method import LinearProbe

__all__ = ["LinearProbe"]
