"""The job file: its sections, and how strictly it is read."""
