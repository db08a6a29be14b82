"""Stored classifiers and their predictions."""
