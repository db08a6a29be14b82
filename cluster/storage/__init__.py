"""Named objects on local disks, S3 and whatever else fsspec opens: written whole, retried, leased."""
