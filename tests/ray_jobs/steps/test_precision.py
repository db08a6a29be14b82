"""What "auto" stands for follows from the workers, is decided once, and is part of the names of features."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cluster import ClusterError
from cluster.on_ray.capacity import Node
from fewshot.backbones.clip_spec import ClipSpec, precision_on
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import (
    ClassifierSection,
    ClipSection,
    ClusterSection,
    EscalateSection,
    EvaluateSection,
    Job,
    JobSection,
)
from ray_jobs.output.layout import features_folder
from ray_jobs.steps import local_gpus as finding
from ray_jobs.steps import precision
from ray_jobs.steps.local_gpus import LocalGpus, driver_gpus, torch_platform
from ray_jobs.steps.precision import TYPE_LABEL, settle_precision

GPU = Node(cpus=8, gpus=1, labels={"pool": "gpu", TYPE_LABEL: "H100"})
OLD = Node(cpus=8, gpus=1, labels={"pool": "old", TYPE_LABEL: "V100"})
CPU = Node(cpus=8, gpus=0, labels={"pool": "cpu"})


def job(clip=None, **cluster):
    return Job(job=JobSection(name="a", output="/out"), clip=clip or ClipSection(), cluster=ClusterSection(**cluster))


def unreachable(address):
    raise ClusterError(f"no Ray responds at {address}.")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [(None, "fp32"), ((6, 1), "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((12, 0), "bf16")],
)
def test_a_device_gets_the_fastest_arithmetic_that_it_has(capability, expected):
    assert precision_on(capability) == expected
    assert ClipSpec().settled(capability) == ClipSpec(precision=expected)
    assert ClipSpec(precision="fp32").settled(capability).precision == "fp32"
    assert ClipSpec(tf32=True).settled(capability).tf32 == (capability is not None)


@pytest.mark.parametrize(
    ("nodes", "cluster", "expected"),
    [
        ((CPU, GPU), {}, "bf16"),
        ((CPU, GPU, OLD), {}, "fp16"),
        ((CPU, GPU, OLD), {"labels": {"pool": "gpu"}}, "bf16"),
        ((CPU, GPU), {"labels": {"pool": "cpu"}}, "fp32"),
        ((CPU, GPU), {"labels": {"pool": "comes later"}}, "bf16"),
        ((CPU,), {}, "fp32"),
        ((replace(CPU, labels={TYPE_LABEL: "V100"}), GPU), {}, "bf16"),
    ],
)
def test_a_cluster_is_asked_for_its_gpus(nodes, cluster, expected):
    settled = settle_precision(job(address="auto", **cluster), nodes=lambda _: nodes)
    assert settled.clip.precision == expected


@pytest.mark.parametrize(
    ("clip", "cluster", "expected"),
    [
        ({"precision": "fp16"}, {}, "fp16"),
        ({"device": "cpu"}, {}, "fp32"),
        ({}, {"gpus_per_worker": 0}, "fp32"),
        ({}, {"gpus_per_worker": 0.5}, "bf16"),
        ({}, {"gpus_per_worker": 1, "labels": {TYPE_LABEL: "T4"}}, "fp16"),
        ({}, {"gpus_per_worker": 1, "labels": {TYPE_LABEL: "P100"}}, "fp32"),
    ],
)
def test_a_cluster_is_not_asked_where_the_job_decides(clip, cluster, expected):
    asked = job(ClipSection(**clip), address="auto", **cluster)
    assert settle_precision(asked, nodes=unreachable).clip.precision == expected


def test_a_cluster_that_does_not_respond_stops_a_job_and_not_a_plan():
    asked = job(address="host:6379")
    with pytest.raises(JobError, match=r"no Ray responds at host:6379\. Set clip\.precision"):
        settle_precision(asked, nodes=unreachable)
    assert settle_precision(asked, nodes=unreachable, may_guess=True).clip.precision == "fp32"


@pytest.mark.parametrize(("found", "expected"), [(LocalGpus(), "fp32"), (LocalGpus(2, (9, 0)), "bf16")])
def test_without_a_cluster_the_gpus_of_this_machine_decide(monkeypatch, found, expected):
    monkeypatch.setattr(precision, "local_gpus", lambda: found)
    assert settle_precision(job()).clip.precision == expected


@pytest.mark.parametrize(("found", "expected"), [(None, "fp32"), ((7, 5), "fp32"), ((8, 0), "bf16")])
def test_a_diffusion_model_never_gets_float16(monkeypatch, found, expected):
    monkeypatch.setattr(precision, "local_gpus", lambda: LocalGpus(1, found))
    learned = replace(job(), classifier=ClassifierSection(method="mcti"), escalate=EscalateSection())
    settled = settle_precision(learned)
    assert (settled.escalate.precision, settled.diffusion.precision) == (expected, expected)
    assert isinstance(settled.escalate, EscalateSection)


def test_the_methods_of_an_evaluation_settle_the_diffusion_model():
    compared = replace(
        job(gpus_per_worker=0), evaluate=EvaluateSection(splits="/splits.json", methods=("tip_adapter", "mcti"))
    )
    assert settle_precision(compared).diffusion.precision == "fp32"


def test_a_section_whose_model_is_not_used_asks_no_cluster():
    asked = job(ClipSection(precision="fp32"), address="auto")
    assert settle_precision(asked, nodes=unreachable).diffusion.precision == "auto"
    with pytest.raises(JobError, match=r"\[escalate\] precision .*Set escalate\.precision"):
        settle_precision(replace(asked, escalate=EscalateSection()), nodes=unreachable)


def test_a_cluster_is_asked_once_for_all_sections():
    asked = []
    settled = settle_precision(
        replace(job(address="auto"), escalate=EscalateSection()), nodes=lambda address: asked.append(address) or (GPU,)
    )
    assert (settled.clip.precision, settled.escalate.precision, asked) == ("bf16", "bf16", ["auto"])


def test_features_are_named_by_their_precision():
    names = {features_folder(ClipSpec(precision=name), "a") for name in ("fp32", "bf16", "fp16")}
    assert len(names) == 3
    with pytest.raises(ValueError, match="settle it"):
        features_folder(ClipSpec(), "a")


def test_only_settings_that_count_are_part_of_a_name():
    def name(**settings):
        return features_folder(ClipSpec(**settings), "a")

    assert name(precision="bf16", tf32=True) == name(precision="bf16")
    assert len({name(precision="fp32"), name(precision="fp32", tf32=True), name(precision="fp32", compile=True)}) == 3
    assert {"tf32", "compile"}.isdisjoint(ClipSpec(precision="fp32").identity())


def driver(capabilities, version=13020, *, no_device=0):
    """As much of libcuda as is used: calls return 0 and write through pointers. Devices are counted after `cuInit`.

    Without any, `cuInit` returns `no_device`.
    """
    begun = []

    def put(pointer, value):
        pointer._obj.value = value
        return 0

    def begin(flags):
        begun.append(flags)
        return 0 if capabilities else no_device

    return SimpleNamespace(
        cuDriverGetVersion=lambda pointer: put(pointer, version),
        cuInit=begin,
        cuDeviceGetCount=lambda pointer: put(pointer, len(capabilities)) if begun else 3,
        cuDeviceGet=lambda pointer, index: put(pointer, 10 + index),
        cuDeviceGetAttribute=lambda pointer, attribute, device: put(
            pointer, capabilities[device.value - 10][{75: 0, 76: 1}[attribute]]
        ),
    )


def test_the_driver_counts_gpus_and_knows_the_least_capable():
    assert driver_gpus(driver([(9, 0), (8, 6)]), least_version=13) == LocalGpus(2, (8, 6))
    assert driver_gpus(driver([(9, 0)], version=13000), least_version=13) == LocalGpus(1, (9, 0))
    assert driver_gpus(driver([]), least_version=13) == LocalGpus()
    assert driver_gpus(driver([], no_device=100), least_version=13) == LocalGpus()
    assert driver_gpus(driver([(9, 0)], version=12080), least_version=13) == LocalGpus()


@pytest.fixture
def forgotten():
    """The GPUs of this machine are looked for anew, in the test and after it."""
    finding.local_gpus.cache_clear()
    yield
    finding.local_gpus.cache_clear()


@pytest.mark.parametrize(("platform", "count"), [((13, False), 1), ((None, True), 2), ((None, False), 0)])
def test_torch_decides_who_is_asked_for_gpus(monkeypatch, forgotten, platform, count):
    """The driver of NVIDIA, torch for ROCm, or none."""
    monkeypatch.setattr(finding, "torch_platform", lambda: platform)
    monkeypatch.setattr(finding, "_load_driver", lambda: driver([(9, 0)]))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: (9, index))
    assert finding.local_gpus() == LocalGpus(count, (9, 0) if count else None)


def test_gpus_of_this_machine_are_those_that_torch_finds(forgotten):
    import torch

    assert finding.local_gpus().count == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    version = torch.version.cuda
    assert torch_platform() == (None if version is None else int(version.split(".")[0]), torch.version.hip is not None)
