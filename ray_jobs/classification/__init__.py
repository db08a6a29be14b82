"""The job `classify`: label an archive, and say beforehand what that takes."""
