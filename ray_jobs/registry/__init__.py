"""Versions of the classifiers of a job, which of them is in production, and the journal of every move."""
