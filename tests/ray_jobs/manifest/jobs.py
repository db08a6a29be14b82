"""Job files to make manifests of, and the manifests as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ray_jobs.job_file.command_needs import JobCommand, ManifestKind
from ray_jobs.manifest import make_manifest

PLAIN = """\
[job]
name = "groceries"
output = "s3://bucket/runs"

[archive]
uri = "s3://bucket/photos"

[support]
uri = "s3://bucket/examples.csv"

[deploy]
image = "registry.example/fewshot:0.1.0"

[deploy.aws]
region = "eu-west-1"
ami = "ami-0123456789abcdef0"
instance_profile = "arn:aws:iam::123456789012:instance-profile/fewshot"
"""

EVERYTHING = """\
[job]
name = "groceries"
output = "/data/runs"

[archive]
uri = "/photos/archive"
labels = "s3://bucket/truth.csv"

[support]
uri = "file:///photos/examples"

[[support.classes]]
label = "café"
description = \"\"\"two lines:
  and "quotes" \"\"\"

[clip]
model = "/weights/clip"

[evaluate]
splits = "s3://bucket/splits.json"

[cluster]
clip_workers = 6
gpus_per_worker = 0.5
cpus_per_worker = 2

[deploy]
image = "registry.example:5000/team/fewshot@sha256:0123456789abcdef"
namespace = "vision"
service_account = "reader"
secret = "fewshot-storage"
retries = 5
deadline_s = 7200
keep_s = 60
idle_s = 45
drain_s = 25
shared_memory_gib = 3
model_cache = "/data/hub"
image_folders = ["/weights"]
spot_selector = { "cloud.google.com/gke-spot" = "true", pool = "1e3" }

[[deploy.volumes]]
claim = "shared"
path = "/data"

[[deploy.volumes]]
claim = "archive"
path = "/photos"
read_only = true

[deploy.head]
cpus = 3
memory_gib = 12

[deploy.gpu]
min = 1
max = 4
cpus = 7
memory_gib = 28
gpus = 2
spot = true
node_selector = { "cloud.google.com/gke-accelerator" = "nvidia-l4" }

[deploy.cpu]
min = 2
max = 3
cpus = 14
memory_gib = 56
spot = true
node_selector = { pool = "plain" }

[deploy.aws]
region = "us-east-1"
ami = "ami-0fedcba9876543210"
instance_profile = "arn:aws:iam::210987654321:instance-profile/other"
head_type = "m7i.large"
gpu_type = "g6.12xlarge"
cpu_type = "m7i.4xlarge"
disk_gib = 300
ssh_user = "admin"
"""
"""Every key of [deploy] but `queue`, which excludes spot machines, has a value that is not its default."""


def write(folder: Path, text: str) -> Path:
    """The job file."""
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def documents(
    folder: Path, text: str, *overrides: str, kind: ManifestKind = "rayjob", command: JobCommand = "classify"
) -> list[dict[str, Any]]:
    """The manifest as a reader of YAML sees it."""
    made = make_manifest(write(folder, text), overrides, kind=kind, command=command)
    return list(yaml.safe_load_all(made))
