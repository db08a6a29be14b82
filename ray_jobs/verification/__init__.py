"""The command `verify`: read all stored objects of runs, and compare them with their digests."""
