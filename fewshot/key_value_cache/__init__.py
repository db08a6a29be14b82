"""The examples as a key-value cache: the shared parts of Tip-Adapter, Tip-Adapter-F, Tip-X, APE and APE-T."""
