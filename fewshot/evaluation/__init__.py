"""Metrics of predictions, and the protocols of few-shot evaluation."""
