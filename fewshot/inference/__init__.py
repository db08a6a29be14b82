"""A trained classifier: its files, and its predictions."""
