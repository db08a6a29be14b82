"""Calibrated probabilities: temperature scaling, held-out estimates of accuracy, and abstention."""
