"""Manifests that deploy a job: KubeRay's RayJob and RayCluster, and the cluster file of `ray up`."""

from ray_jobs.manifest.make import make_manifest

__all__ = ["make_manifest"]
