"""A real S3 server for tests, and a proxy before it that counts requests and injects faults."""
