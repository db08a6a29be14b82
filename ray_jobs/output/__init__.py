"""What a job writes: every stored format, its place and its version."""
