"""Run stages on a Ray cluster: a pool of actors that is started, watched and replaced here."""
