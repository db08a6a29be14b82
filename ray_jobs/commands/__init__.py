"""The `fewshot` command: what each command takes, and how it shows its result."""
