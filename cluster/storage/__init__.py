"""Named objects on local disks, S3 and every other fsspec file system: atomic writes, retries, leases."""
