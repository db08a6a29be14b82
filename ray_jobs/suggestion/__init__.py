"""What to label next, and images of an archive that are like a text or an image: `suggest` and `search`."""
