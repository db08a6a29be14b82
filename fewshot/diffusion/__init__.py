"""Classification with a diffusion model: time-steps and their weights, tables of errors, and who is asked what."""
