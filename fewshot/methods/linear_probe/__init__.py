"""Linear probe: logistic regression on frozen features, names unheard."""

from fewshot.methods.linear_probe.method import LinearProbe, LinearProbeClassifier

__all__ = ["LinearProbe", "LinearProbeClassifier"]
