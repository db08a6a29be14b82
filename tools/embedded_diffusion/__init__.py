"""Train the diffusion model of the package. See `__main__`."""
