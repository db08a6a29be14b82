"""A real S3 server for tests, and a proxy in front of it that counts requests and injects faults."""
