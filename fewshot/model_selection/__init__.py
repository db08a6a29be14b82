"""Choose hyperparameters and methods inside the examples, by cross-validation."""
