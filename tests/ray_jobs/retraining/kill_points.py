"""Kill a turn before each of its storage writes, run it again, and compare with an undisturbed one.

python -m tests.ray_jobs.retraining.kill_points             # every turn of `scenes`, all points, a line a failure
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.ray_jobs.place import Outcome, Place
from tests.ray_jobs.retraining.disturbances import interrupt_before, kill_before, run_whole
from tests.ray_jobs.retraining.project import Left, Project
from tests.ray_jobs.retraining.scenes import LATER_LABELS, SCENES, Scene, hazy_project
from tests.tiny_clip import write_tiny_clip


@dataclass(frozen=True)
class Prepared:
    """A turn that can be taken again and again from the same state.

    Attributes:
        project: of the turn.
        scene: the turn.
        before: all objects of the output before it.
        expected: what an undisturbed one leaves.
        paths: of its storage writes.
    """

    project: Project
    scene: Scene
    before: dict[str, bytes]
    expected: Left
    paths: tuple[str, ...]

    @classmethod
    def of(cls, project: Project, scene: Scene) -> Prepared:
        """Prepare a scene in an output, which is emptied first, and take its turn once.

        Raises:
            AssertionError: the turn fails, or makes other moves than the scene says.
        """
        project.restore({})
        scene.prepare(project)
        before, kinds = project.objects(), project.kinds()
        ended = run_whole(project.words(*scene.settings))
        assert ended.code == scene.code, ended.messages
        assert tuple(project.kinds()[len(kinds) :]) == scene.moves, project.kinds()
        return cls(project, scene, before, project.left(), ended.paths)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the command."""
        return self.project.words(*self.scene.settings)

    def points(self, count: int | None = None) -> list[int]:
        """Numbers of writes from 1: those of the journal, and as many others, evenly spread; None takes all."""
        every = range(1, len(self.paths) + 1)
        if count is None:
            return list(every)
        journal = {point for point in every if "/journal/" in self.paths[point - 1]}
        spread = {1 + round(index * (len(every) - 1) / max(count - 1, 1)) for index in range(count)}
        return sorted(journal | spread)

    def survives(self, point: int) -> list[str]:
        """Kill the turn before a write and run it again; return in what it differs from an undisturbed one."""
        self.project.restore(self.before)
        killed = kill_before(self.words, point)
        where = f"before write {point}, {self.paths[point - 1] if point <= len(self.paths) else 'none'}"
        if killed.code != -signal.SIGKILL:
            return [f"not killed {where}: exit code {killed.code}"]
        outcome = self.project.turn(*self.scene.settings)
        if outcome.code != self.scene.code:
            return [f"killed {where}, the next run fails: {outcome.messages}"]
        return [f"killed {where}: {line}" for line in self.harm()]

    def harm(self) -> list[str]:
        """Return in what the project differs from one with an undisturbed turn."""
        return list(differences(self.project.left(), self.expected))

    def respects_rollback(self, point: int) -> list[str]:
        """Let a person roll back before a write of the turn, and take another turn.

        A turn looks at production for the last time before it releases its lease, which is its last write: whatever
        moves production then is for the next turn.

        Returns:
            what is not as the person said, and whether the archive is not labelled by production.
        """
        project, where, moved = self.project, f"rolled back before write {point}", list[Outcome]()
        project.restore(self.before)
        ended = interrupt_before(self.words, point, lambda: moved.append(project.roll_back()))
        assert [each.code for each in moved] == [0]
        said, wrong = moved[0].result["production"], list[str]()
        if ended.code != 0 and "moved meanwhile" not in ended.messages:
            wrong.append(f"{where}: {ended.messages}")
        is_labelled = ended.code == 0 and point < len(self.paths)
        wrong += _other_production(project, said, f"{where}, after the turn", is_labelled=is_labelled)
        again = project.turn(*self.scene.settings)
        if again.code != 0:
            wrong.append(f"{where}: the next turn fails: {again.messages}")
        return wrong + _other_production(project, said, f"{where}, after the next turn")


def _other_production(project: Project, said: int, where: str, *, is_labelled: bool = True) -> list[str]:
    state, left = project.state(), project.left()
    assert state.production is not None
    wrong = []
    if state.production != said:
        wrong.append(f"{where}: a person said version {said}, production is version {state.production}")
    if is_labelled and (left.classifier != state.version(state.production).folder or not left.complete):
        wrong.append(f"{where}: the archive is labelled by {left.classifier}, not by version {state.production}")
    return wrong


def differences(found: Left, expected: Left) -> Iterator[str]:
    """Yield in what turns differ, a line each."""
    if found.moves != expected.moves:
        yield f"moves {_told(found)}, expected {_told(expected)}"
    if changed := sorted({path for path, _ in found.objects.items() ^ expected.objects.items()}):
        yield f"other bytes: {', '.join(changed)}"
    if (found.run, found.classifier) != (expected.run, expected.classifier):
        yield f"{found.run} by {found.classifier}, expected {expected.run} by {expected.classifier}"
    if not found.complete:
        yield "predictions are missing"


def _told(left: Left) -> list[str]:
    return [f"{move.kind}: {why}" for _, why, move in left.moves]


def main(names: Sequence[str]) -> int:
    """Kill at all points; 1 if a turn is harmed.

    Args:
        names: words of the names of scenes; none takes all.
    """
    harmed = 0
    with tempfile.TemporaryDirectory(prefix="kill-points-") as folder:
        clip = Path(folder) / "clip"
        clip.mkdir()
        project = hazy_project(Place(Path(folder), write_tiny_clip(clip)))
        for scene in SCENES:
            if names and not any(name in scene.name for name in names):
                continue
            prepared = Prepared.of(project, scene)
            harmed += _told_lines(f"{scene.name}: killed", prepared, prepared.survives)
            if scene is LATER_LABELS:
                harmed += _told_lines(f"{scene.name}: rolled back", prepared, prepared.respects_rollback)
    return int(harmed > 0)


def _told_lines(what: str, prepared: Prepared, disturbed: Callable[[int], list[str]]) -> int:
    found = [line for point in prepared.points() for line in disturbed(point)]
    sys.stdout.write(f"{what} before each of {len(prepared.paths)} storage writes; {len(found)} harmed\n")
    sys.stdout.writelines(f"  {line}\n" for line in found)
    sys.stdout.flush()
    return len(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
