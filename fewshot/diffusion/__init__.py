"""Classification with a diffusion model: noise errors, time-steps and their weights, races, and adapter training."""
