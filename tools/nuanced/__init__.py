"""Nuanced against prominent attributes, measured. See `__main__`."""
