"""Names that can be checked without loading torch. A test keeps them equal to the tables they stand for."""

METHOD_NAMES = ("ape", "nearest_mean", "tip_adapter", "zero_shot")
