"""The cluster file of `ray up`, as plain values: machines on EC2 that run this package in a container."""

from __future__ import annotations

import math

from ray_jobs.job_file.deploy_section import AwsSection, DeploySection
from ray_jobs.job_file.sections import Job
from ray_jobs.manifest.groups import Group, worker_groups
from ray_jobs.manifest.kubernetes_text import YamlMap, kubernetes_name
from ray_jobs.manifest.pods import object_store_bytes

AUTH_FILE = "~/.ray/auth_token"
"""Path of the token that all machines share, from `ray get-auth-token --generate`; the token itself is not included."""
_HEAD = "head"


def launcher(job: Job, deploy: DeploySection, aws: AwsSection) -> list[YamlMap]:
    """Return a cluster of virtual machines that grows and shrinks."""
    groups = worker_groups(deploy)
    return [
        {
            "cluster_name": kubernetes_name(job.job.name),
            "max_workers": deploy.gpu.max + deploy.cpu.max,
            "idle_timeout_minutes": math.ceil(deploy.idle_s / 60),
            "provider": {"type": "aws", "region": aws.region, "cache_stopped_nodes": False},
            "auth": {"ssh_user": aws.ssh_user},
            "docker": _container(deploy),
            "file_mounts": {AUTH_FILE: AUTH_FILE},
            "head_node_type": _HEAD,
            "available_node_types": {_HEAD: _head(aws)} | {group.name: _workers(group, aws) for group in groups},
            **_commands(object_store_bytes(deploy)),
        }
    ]


def _container(deploy: DeploySection) -> YamlMap:
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": deploy.drain_s,
        "RAY_USAGE_STATS_ENABLED": 0,
    }
    return {
        "image": deploy.image,
        "container_name": "fewshot",
        "run_options": [
            *(f"--env {name}={value}" for name, value in environment.items()),
            f"--shm-size {deploy.shared_memory_gib}g",
            "--ulimit nofile=65536:65536",
        ],
        "disable_shm_size_detection": True,
    }


def _head(aws: AwsSection) -> YamlMap:
    """Return the type of the driver's machine, on which no worker is placed."""
    return {"resources": {"CPU": 0, "GPU": 0}, "node_config": _machine(aws.head_type, aws)}


def _workers(group: Group, aws: AwsSection) -> YamlMap:
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}} if group.spot else {}
    return {
        "min_workers": group.min,
        "max_workers": group.max,
        **group.priority,
        "labels": group.labels,
        "resources": {"CPU": group.cpus, "GPU": group.gpus},
        "node_config": _machine(aws.gpu_type if group.gpus else aws.cpu_type, aws) | spot,
    }


def _machine(instance_type: str, aws: AwsSection) -> YamlMap:
    disk: YamlMap = {"VolumeSize": aws.disk_gib, "VolumeType": "gp3", "Encrypted": True}
    return {
        "InstanceType": instance_type,
        "ImageId": aws.ami,
        "IamInstanceProfile": {"Arn": aws.instance_profile},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
    }


def _commands(object_store_bytes: int) -> dict[str, list[str]]:
    """Return the commands that start Ray. Nothing is installed while machines start: the image has everything."""
    start = f"ray start --object-manager-port=8076 --object-store-memory={object_store_bytes}"
    none = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    return {name: [] for name in none} | {
        "head_start_ray_commands": [
            "ray stop",
            f"{start} --head --port=6379 --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"{start} --address=$RAY_HEAD_IP:6379"],
    }
