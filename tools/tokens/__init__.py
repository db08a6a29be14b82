"""Problems for methods that learn tokens. See `__main__`."""
