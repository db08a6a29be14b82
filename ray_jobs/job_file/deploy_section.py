"""Section [deploy] of a job file: the machines that `fewshot manifest` asks Kubernetes or a cloud for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from ray_jobs.job_file.field_types import STRICT, Count

Amount = Annotated[int, Field(ge=0, strict=True)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
Folder = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_][-A-Za-z0-9_.]*)+$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSection:
    """Section [deploy.head]: the machine of the driver and of Ray's head. Never a spot machine; it runs no worker.

    Attributes:
        cpus: for the driver, which trains the classifier.
        memory_gib: GiB.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    cpus: Count = 2
    memory_gib: Count = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuWorkersSection:
    """Section [deploy.cpu]: machines without GPUs.

    Attributes:
        min: machines that are kept while the cluster lives.
        max: machines at most; 0 for none.
        cpus: of one machine, as far as pods may have them: the kubelet keeps some for itself.
        memory_gib: GiB of one machine, /dev/shm included, as far as pods may have them.
        spot: spot machines are taken first; those that cannot be had, or are taken away, are replaced by others.
        node_selector: labels of the Kubernetes nodes to use.
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
    """Section [deploy.gpu]: machines with GPUs; the same keys, and another.

    Attributes:
        gpus: of one machine.
    """

    max: Amount = 1
    gpus: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSection:
    """Section [[deploy.volumes]]: shared storage that every pod mounts.

    Attributes:
        claim: a PersistentVolumeClaim that many nodes may mount.
        path: the folder it is seen as.
        read_only: nothing is written there.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    claim: ObjectName
    path: Folder
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSection:
    """Section [deploy.aws]: what `--kind launcher` needs to start machines on EC2.

    Attributes:
        region: such as "eu-west-1".
        ami: an image of Ubuntu with Docker, and with NVIDIA's driver and container toolkit if there are GPU workers.
            Ray's own default is too old for this.
        instance_profile: ARN of the identity of all machines: it reads the archive, writes the output and, for the
            head, starts machines and passes the profile on.
        head_type: instance type of the head.
        gpu_type: instance type of the GPU workers.
        cpu_type: instance type of the CPU workers.
        disk_gib: GiB of a machine's disk, for the container image and model weights.
        ssh_user: of the AMI.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    ami: Annotated[str, Field(pattern=r"^ami-[0-9a-f]{8,17}$")]
    instance_profile: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:instance-profile/\S+$")]
    head_type: str = "m6i.large"
    gpu_type: str = "g5.2xlarge"
    cpu_type: str = "m6i.2xlarge"
    disk_gib: Count = 200
    ssh_user: str = "ubuntu"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySection:
    """Section [deploy]: where the job's pods or machines come from. Never holds a secret, only names of them.

    Attributes:
        image: a container image with this package, see `Dockerfile`; with a tag or digest that says which version.
        namespace: of Kubernetes; None is the one that kubectl is set to.
        service_account: whose identity the pods have; None is the namespace's default.
        secret: a Secret in the namespace whose keys become environment variables (AWS_ACCESS_KEY_ID…); None gives none,
            and access to storage comes from the service account.
        queue: a LocalQueue of Kueue, which starts the job when there is room for all of it; None starts it at once.
        retries: how often a failed job is started anew, on a new cluster. What was done is found again.
        deadline_s: seconds after which a job that is still running counts as failed; None never.
        keep_s: seconds for which the cluster is kept when the job is over, to be looked at.
        idle_s: seconds after which a worker machine without work is given back.
        drain_s: seconds that a machine which is taken away has to finish what it is doing. Spot machines have as much
            as their cloud grants: 120 on AWS, 30 on Azure and Google.
        shared_memory_gib: GiB of /dev/shm of each pod, part of its memory; three quarters are Ray's object store.
        model_cache: a folder in one of the volumes where weights from the hub are kept; None loads them on every
            machine anew.
        image_folders: folders of the image itself that the job may name, such as weights.
        spot_selector: labels of the Kubernetes nodes that are spot machines, such as
            { "cloud.google.com/gke-spot" = "true" }; taints of the same names are tolerated.
        volumes: shared storage.
        head: the machine of the driver.
        gpu: machines with GPUs.
        cpu: machines without.
        aws: for `--kind launcher`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    image: Annotated[str, Field(pattern=r"^[a-z0-9]\S*$")]
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
