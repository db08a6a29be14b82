"""Ray's own autoscaler, given a manifest and the workers of its job, requests the machines that it should.

It runs in this process and starts nothing; KubeRay's operator and clouds do that.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.scripts.scripts import start

from ray_jobs.job_file.reading import read_job
from ray_jobs.manifest.sizing import WorkerShape, capacity
from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN, documents, write

KINDS = ("raycluster", "launcher")


def autoscaler(folder: Path, *overrides: str, kind: str) -> AutoscalingConfig:
    """The autoscaler's configuration for a manifest, with its own checks."""
    (made,) = documents(folder, PLAIN, "deploy.namespace=vision", *overrides, kind=kind)  # type: ignore[arg-type]
    config = prepare_config(made) if kind == "launcher" else _derive_autoscaling_config_from_ray_cr(made)
    validate_config(config)
    return AutoscalingConfig(config, skip_content_hash=True)


def started(config: AutoscalingConfig, demand: dict[str, float], workers: int, *, gone: str = "") -> dict[str, int]:
    """The machines that are started for so many workers, by group; those of the group `gone` cannot be had now."""
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(demand)] * workers),
            recoverable_resource_availabilities={gone: 0.0},
        )
    )
    assert not reply.infeasible_resource_requests
    return {launch.instance_type: launch.count for launch in reply.to_launch if launch.instance_type != "head"}


SPOT = ("deploy.gpu.max=4", "deploy.gpu.spot=true", 'deploy.spot_selector={ a = "b" }')


@pytest.mark.parametrize("kind", KINDS)
def test_spot_machines_are_started_first_and_others_where_there_are_none(tmp_path, kind):
    config = autoscaler(tmp_path, *SPOT, kind=kind)
    worker = {"CPU": 1.0, "GPU": 1.0}
    assert started(config, worker, 3) == {"gpu-spot": 3}
    assert started(config, worker, 3, gone="gpu-spot") == {"gpu": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_kept_machines_are_not_spot_machines(tmp_path, kind):
    config = autoscaler(tmp_path, *SPOT, "deploy.gpu.min=2", kind=kind)
    assert started(config, {"CPU": 1.0, "GPU": 1.0}, 0) == {"gpu": 2}
    assert started(config, {"CPU": 1.0, "GPU": 1.0}, 4) == {"gpu": 2, "gpu-spot": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_without_gpus_start_cpu_machines(tmp_path, kind):
    config = autoscaler(tmp_path, "deploy.cpu.max=3", kind=kind)
    assert started(config, {"CPU": 6.0}, 2) == {"cpu": 2}


@settings(max_examples=30)
@given(
    kind=st.sampled_from(KINDS),
    most=st.integers(1, 5),
    gpus=st.integers(1, 4),
    cpus=st.integers(1, 9),
    spot=st.booleans(),
    shape=st.sampled_from([(1, 0.25), (1, 0.5), (2, 0.5), (1, 1), (3, 1), (1, 2)]),
)
def test_the_workers_of_a_job_fill_all_machines(tmp_path_factory, kind, most, gpus, cpus, spot, shape):
    folder = tmp_path_factory.getbasetemp()
    overrides = [
        f"cluster.cpus_per_worker={shape[0]}",
        f"cluster.gpus_per_worker={shape[1]}",
        f"deploy.gpu={{ max = {most}, gpus = {gpus}, cpus = {cpus}, spot = {str(spot).lower()} }}",
        *SPOT[2:],
    ]
    job, _ = read_job(write(folder, PLAIN), overrides)
    workers = capacity(WorkerShape.from_job(job, job.deploy), job.deploy)
    if workers:
        machines = started(autoscaler(folder, *overrides, kind=kind), {"CPU": shape[0], "GPU": shape[1]}, workers)
        assert sum(machines.values()) == most


def test_options_of_ray_start_exist(tmp_path):
    known = {option for parameter in start.params for option in parameter.opts}
    cluster = documents(tmp_path, EVERYTHING, kind="raycluster")[0]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= known
    (launcher,) = documents(tmp_path, PLAIN, kind="launcher")
    for command in (launcher["head_start_ray_commands"][-1], launcher["worker_start_ray_commands"][-1]):
        ray, subcommand, *words = command.split()
        assert (ray, subcommand) == ("ray", "start")
        with start.make_context(subcommand, words):
            pass
