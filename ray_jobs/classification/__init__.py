"""The job `classify`: label an archive, and estimate beforehand what that takes."""
