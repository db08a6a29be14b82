"""Selection of hyperparameters and methods by cross-validation inside the shots."""
