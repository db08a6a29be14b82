"""Chaos tests: jobs whose cluster and storage fail at random end with the bytes of a run without faults."""
