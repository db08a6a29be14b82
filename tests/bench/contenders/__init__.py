"""Programs that benchmarks run in their own process, with arguments on the command line."""
