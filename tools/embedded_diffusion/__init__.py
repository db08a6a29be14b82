"""Train the diffusion model that ships with the package. See `__main__`."""
