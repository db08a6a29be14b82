"""Problems for methods that train tokens. See `__main__`."""
