"""From logits to probabilities: temperatures, held-out estimates, abstention."""
