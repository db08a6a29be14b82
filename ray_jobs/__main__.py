"""`python -m ray_jobs classify job.toml` is `fewshot classify job.toml`."""

from ray_jobs.cli import main

main()
