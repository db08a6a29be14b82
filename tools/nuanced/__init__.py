"""A measurement of nuanced against prominent attributes. See `__main__`."""
