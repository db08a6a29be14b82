"""Manifests that deploy a job: KubeRay's RayJob, RayCluster and RayCronJob, a CronJob, the cluster file of `ray up`."""

from ray_jobs.manifest.make import make_manifest, make_schedule_manifest

__all__ = ["make_manifest", "make_schedule_manifest"]
