"""Predictions of a run as files for other programs: one module a format, and one table of formats.

To add a format, write a module with a function `write` (see `export_run.Writer`) and add a line to `FORMATS`.
"""
