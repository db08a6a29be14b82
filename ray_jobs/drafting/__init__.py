"""Draft a job file from an archive and examples: look at both, choose settings, write a commented file.

A room of its own between `inputs` and `commands`: it reads archives and examples, which `job_file` must not do, and
it writes nothing but text.
"""
