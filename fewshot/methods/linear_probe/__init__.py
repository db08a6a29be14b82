"""Linear probe: logistic regression on frozen features, without class names."""

from fewshot.methods.linear_probe.method import LinearProbe, LinearProbeClassifier

__all__ = ["LinearProbe", "LinearProbeClassifier"]
