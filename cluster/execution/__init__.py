"""Spread the units of a stage over workers, without Ray: `cluster.on_ray` is one engine, `LocalExecutor` another."""
