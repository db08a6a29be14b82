"""The groups of equal worker machines that a cluster is made of, whoever starts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ray_jobs.job_file.deploy_section import CpuWorkersSection, DeploySection, GpuWorkersSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Machines of one kind.

    Attributes:
        name: what it is called.
        min: machines that are kept.
        max: machines at most.
        cpus: of one machine.
        memory_gib: GiB of one machine.
        gpus: of one machine.
        spot: whether a machine may be taken away.
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
        """What Ray knows a node as."""
        return {"ray.io/market-type": "spot" if self.spot else "on-demand"}

    @property
    def priority(self) -> dict[str, int]:
        """As both manifests name it: spot machines are started first, as long as they can be had.

        Older operators know no priority, so it is named only where it matters.
        """
        return {"priority": 1} if self.spot else {}


def worker_groups(deploy: DeploySection) -> tuple[Group, ...]:
    """All groups that may have machines.

    With spot machines there are two groups of a kind, and each may grow to the full number: how many machines there are
    in all follows from what is asked for. The machines that are always kept are no spot machines.
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
