"""SAFE: fine-tuning of the attention pooling of the image tower, alone or with an adapter behind it."""
