"""The examples as a key-value cache: Tip-Adapter, APE, and what they share."""
