"""`python -m ray_jobs classify job.toml` is `fewshot classify job.toml`."""

from ray_jobs.commands.app import main

main()
