"""What a job reads: the archive, the examples, ground-truth labels."""
