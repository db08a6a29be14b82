"""Groups of equal worker machines, for Kubernetes and for `ray up`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ray_jobs.job_file.deploy_section import CpuWorkersSection, DeploySection, GpuWorkersSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Machines of one kind.

    Attributes:
        name: name of the group.
        min: machines that are kept as long as the cluster exists.
        max: most machines.
        cpus: CPUs of a machine.
        memory_gib: memory of a machine in GiB.
        gpus: GPUs of a machine.
        spot: whether the machines are spot machines, which may be taken away.
        selector: labels of the Kubernetes nodes to use.
    """

    name: str
    min: int
    max: int
    cpus: int
    memory_gib: int
    gpus: int
    spot: bool
    selector: Mapping[str, str]

    @property
    def labels(self) -> dict[str, str]:
        """Ray labels of the nodes."""
        return {"ray.io/market-type": "spot" if self.spot else "on-demand"}

    @property
    def priority(self) -> dict[str, int]:
        """Field of both manifests that makes spot machines start first, as long as they are available.

        Empty for other machines: older operators refuse the field.
        """
        return {"priority": 1} if self.spot else {}


def worker_groups(deploy: DeploySection) -> tuple[Group, ...]:
    """Return all groups that may have machines.

    A kind with spot machines has two groups, and each may grow to the full number: the workers requested limit the
    machines in all. Machines that are always kept are not spot machines.
    """
    return (*_groups("gpu", deploy.gpu), *_groups("cpu", deploy.cpu))


def _groups(name: str, section: CpuWorkersSection) -> Iterator[Group]:
    if not section.max:
        return
    plain = Group(
        name=name,
        min=section.min,
        max=section.max,
        cpus=section.cpus,
        memory_gib=section.memory_gib,
        gpus=section.gpus if isinstance(section, GpuWorkersSection) else 0,
        spot=False,
        selector=section.node_selector,
    )
    yield plain
    if section.spot:
        yield _on_spot(plain)


def _on_spot(group: Group) -> Group:
    return replace(group, name=f"{group.name}-spot", min=0, spot=True)
