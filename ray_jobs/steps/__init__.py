"""The steps that workers run, and where they run them."""
