"""Section [deploy] of a job file: the machines that `fewshot manifest` requests from Kubernetes or from a cloud.

Docstrings and types of these classes become error messages, the JSON schema (`fewshot schema`) and `docs/job_file.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from ray_jobs.job_file.field_types import STRICT, Amount, Count, Folder, LabelKey, LabelValue, ObjectName


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSection:
    """Section [deploy.head]: the machine of the driver and of Ray's head.

    It is never a spot machine, and no worker runs on it.

    Attributes:
        cpus: CPUs for the driver, which trains the classifier.
        memory_gib: Memory in GiB.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    cpus: Count = 2
    memory_gib: Count = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWorkersSection:
    """Section [deploy.cpu]: worker machines without GPUs.

    Attributes:
        min: Machines that are kept as long as the cluster exists.
        max: Most machines; 0 for none.
        cpus: CPUs of a machine that pods may use; Kubernetes reserves some for itself.
        memory_gib: Memory of a machine in GiB that pods may use, /dev/shm included.
        spot: Start spot machines first; other machines replace those that are not available or taken away.
        node_selector: Labels of the Kubernetes nodes to use.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    min: Amount = 0
    max: Amount = 0
    cpus: Count = 6
    memory_gib: Count = 24
    spot: bool = False
    node_selector: dict[LabelKey, LabelValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWorkersSection(CpuWorkersSection):
    """Section [deploy.gpu]: worker machines with GPUs.

    Attributes:
        gpus: GPUs of a machine.
    """

    max: Amount = 1
    gpus: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSection:
    """Section [[deploy.volumes]]: shared storage that every pod mounts.

    Attributes:
        claim: Name of a PersistentVolumeClaim that many nodes may mount.
        path: Folder in which the pods see it.
        read_only: Mount it without permission to write.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    claim: ObjectName
    path: Folder
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSection:
    """Section [deploy.aws]: machines on EC2, for `fewshot manifest --kind launcher`.

    Attributes:
        region: Region of AWS, such as "eu-west-1".
        ami: Machine image: Ubuntu with Docker and, for GPU workers, NVIDIA's driver and container toolkit. Ray's own
            default is too old.
        instance_profile: ARN of the identity of all machines. It must allow reading the archive, writing the output
            and, for the head, starting machines and passing the profile on.
        head_type: Instance type of the head.
        gpu_type: Instance type of the GPU workers.
        cpu_type: Instance type of the CPU workers.
        disk_gib: Disk of a machine in GiB, for the container image and model weights.
        ssh_user: User of the machine image.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description='a region such as "eu-west-1"')]
    ami: Annotated[str, Field(pattern=r"^ami-[0-9a-f]{8,17}$", description='an ID such as "ami-0123456789abcdef0"')]
    instance_profile: Annotated[
        str,
        Field(
            pattern=r"^arn:aws[a-z-]*:iam::\d{12}:instance-profile/\S+$",
            description='an ARN such as "arn:aws:iam::123456789012:instance-profile/fewshot"',
        ),
    ]
    head_type: str = "m6i.large"
    gpu_type: str = "g5.2xlarge"
    cpu_type: str = "m6i.2xlarge"
    disk_gib: Count = 200
    ssh_user: str = "ubuntu"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySection:
    """Section [deploy]: machines for the job on Kubernetes or in a cloud, for `fewshot manifest`.

    It never holds a secret, only names of secrets.

    Attributes:
        image: Container image with this package (see `Dockerfile`), with a tag or digest that fixes its version.
        namespace: Namespace of Kubernetes. Not set: the current one of kubectl.
        service_account: Service account of the pods. Not set: the default one of the namespace.
        secret: Name of a Secret in the namespace whose keys become environment variables, such as AWS_ACCESS_KEY_ID.
            Not set: the service account gives access to storage.
        queue: Name of a LocalQueue of Kueue, which starts the job when there is room for all of it. Not set: the job
            starts at once.
        retries: Times that a failed job is started again on a new cluster; it resumes.
        deadline_s: Seconds after which a running job counts as failed. Not set: never.
        keep_s: Seconds to keep the cluster after the end of the job, for inspection.
        idle_s: Seconds without work after which a worker machine is given back.
        drain_s: Seconds that a machine has to finish its work when it is taken away. Clouds give spot machines 120
            (AWS) or 30 (Azure, Google).
        shared_memory_gib: Size in GiB of /dev/shm in each pod, part of the pod's memory. Three quarters are Ray's
            object store.
        model_cache: Folder in one of the volumes to keep weights from model hubs. Not set: every machine loads them.
        image_folders: Folders of the container image, such as weights, that the job may name.
        spot_selector: Labels of the Kubernetes nodes that are spot machines, such as { "cloud.google.com/gke-spot" =
            "true" }. Taints of the same names are tolerated.
        volumes: Shared storage that every pod mounts.
        head: The machine of the driver.
        gpu: Worker machines with GPUs.
        cpu: Worker machines without GPUs.
        aws: Machines on EC2, for `--kind launcher`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    image: Annotated[str, Field(pattern=r"^[a-z0-9]\S*$", description='an image such as "registry/fewshot:0.1.0"')]
    namespace: ObjectName | None = None
    service_account: ObjectName | None = None
    secret: ObjectName | None = None
    queue: ObjectName | None = None
    retries: Amount = 2
    deadline_s: Count | None = None
    keep_s: Amount = 300
    idle_s: Count = 120
    drain_s: Count = 90
    shared_memory_gib: Count = 2
    model_cache: Folder | None = None
    image_folders: tuple[Folder, ...] = ()
    spot_selector: dict[LabelKey, LabelValue] = field(default_factory=dict)
    volumes: tuple[VolumeSection, ...] = ()
    head: HeadSection = field(default_factory=HeadSection)
    gpu: GpuWorkersSection = field(default_factory=GpuWorkersSection)
    cpu: CpuWorkersSection = field(default_factory=CpuWorkersSection)
    aws: AwsSection | None = None
