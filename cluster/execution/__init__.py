"""Spread the units of a stage over workers. No Ray here: `cluster.on_ray` is one engine, `LocalExecutor` another."""
