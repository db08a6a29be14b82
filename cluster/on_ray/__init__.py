"""Run stages on a Ray cluster: start, watch and replace a pool of actors."""
