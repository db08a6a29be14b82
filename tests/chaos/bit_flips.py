"""Flip single bits in every kind of stored object, and see that no result changes without a word.

    python -m tests.chaos.bit_flips --flips 10000 [--seed 7]

Small jobs (classify with [escalate], evaluate with cascades, classify with learned tokens) fill an output. Then single
bits of its objects are flipped, one at a time, and the object is read as jobs read it, and as `fewshot verify` does.
A reader must raise an error that names the object, make it anew, or return what it returned before.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from cluster import ClusterError, Store
from fewshot.digests import digest
from fewshot.errors import FewShotError
from ray_jobs.errors import JobError
from ray_jobs.output.stored_objects import find_problem
from ray_jobs.results import EvaluationResult
from tests.chaos.flip_world import FlipWorld, Kind, MadeAnewError, kinds, plain, write_world
from tests.ray_jobs.place import fewshot

MEASURED = re.compile(r"/lease/|/(?:probe|load|work)\.json$|/report/work\.html$")
"""Objects that are not the same whenever they are made."""

Outcome = Literal["named", "made anew", "unread", "same", "WRONG", "UNNAMED"]
"""What a reader made of a flipped bit: an error that names the object, a repair, nothing as nothing reads it, the same
value as before; or one of the two that must not be."""
COLUMNS: tuple[Outcome, ...] = ("named", "made anew", "unread", "same", "WRONG", "UNNAMED")


@dataclass(frozen=True)
class Flip:
    """A flipped bit.

    Attributes:
        kind: of the object.
        path: of the object, in the output.
        bit: number of the bit, from 0.
        outcome: of the reader.
        is_verified: whether `fewshot verify` finds it.
    """

    kind: str
    path: str
    bit: int
    outcome: Outcome
    is_verified: bool

    @property
    def is_silent(self) -> bool:
        """Whether a result may have changed without a word."""
        lost = self.outcome == "unread" and not self.is_verified
        return lost or self.outcome in ("WRONG", "UNNAMED")


@dataclass
class Flipper:
    """Flips bits of an output and puts the bytes back.

    Attributes:
        world: the output.
        objects: by kind, its objects; kinds without any are left out.
        original: bytes of all objects.
    """

    world: FlipWorld
    objects: dict[str, tuple[Kind, list[Path]]] = field(init=False)
    original: dict[str, bytes] = field(init=False)
    _expected: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        output = self.world.place.output
        found = [(kind, kind.paths(output)) for kind in kinds(self.world.spec)]
        self.objects = {kind.name: (kind, paths) for kind, paths in found if paths}
        files = (path for path in output.rglob("*") if path.is_file())
        self.original = {path.relative_to(output).as_posix(): path.read_bytes() for path in files}

    @property
    def store(self) -> Store:
        """The output."""
        return Store(str(self.world.place.output))

    def unknown(self) -> list[str]:
        """Return the files of the output that belong to no kind."""
        known = {str(path.relative_to(self.world.place.output)) for _, paths in self.objects.values() for path in paths}
        return sorted(path for path in self.original if path not in known and "/lease/" not in path)

    def flip(self, name: str, chance: random.Random) -> Flip:
        """Flip a bit of an object of a kind, read it, and put it back."""
        kind, paths = self.objects[name]
        path = chance.choice(paths).relative_to(self.world.place.output).as_posix()
        bit = chance.randrange(8 * len(self.original[path]))
        if kind.read is not None and path not in self._expected:
            self._expected[path] = plain(kind.read(self.store, path))
        changed = bytearray(self.original[path])
        changed[bit // 8] ^= 1 << bit % 8
        try:
            self._write(path, bytes(changed))
            is_verified = self._problem(kind, path) is not None
            return Flip(name, path, bit, self._outcome(kind, path), is_verified)
        finally:
            for each in {path, kind.checked_as(path)}:
                self._write(each, self.original[each])

    def _write(self, path: str, data: bytes) -> None:
        (self.world.place.output / path).write_bytes(data)

    def _problem(self, kind: Kind, path: str) -> str | None:
        """What `fewshot verify` finds; tables as text have their digests in the metrics beside them."""
        if kind.name != "tables as text":
            return find_problem(self.store, kind.checked_as(path))
        folder, _, name = path.rpartition("/")
        files = EvaluationResult.from_json(self.store.get(f"{folder}/metrics.json"), where=folder).files
        return None if digest(self.store.get(path)) == files[name] else "damaged"

    def _outcome(self, kind: Kind, path: str) -> Outcome:
        if kind.read is None:
            return "unread"
        try:
            found = plain(kind.read(self.store, path))
        except MadeAnewError:
            return "made anew"
        except (ClusterError, FewShotError, JobError) as error:
            names = (self.store.url(path), self.store.url(kind.checked_as(path)).removesuffix("/card.json"))
            return "named" if any(name in str(error) for name in names) else "UNNAMED"
        return "same" if found == self._expected[path] else "WRONG"


def flips(flipper: Flipper, count: int, seed: int) -> Iterator[Flip]:
    """Flip bits, as many of every kind."""
    chance, names = random.Random(seed), sorted(flipper.objects)
    for number in range(count):
        yield flipper.flip(names[number % len(names)], chance)


def unrepaired(flipper: Flipper, seed: int) -> list[str]:
    """Flip a bit of every object at once, verify the output, and run all jobs again.

    Metrics of evaluations are spared: they have the digests of the tables beside them.

    Returns:
        What `fewshot verify` did not name, and what has other bytes than before in the end, but for what was measured:
        the speed of the diffusion model, and how busy the stages of embedding were.
    """
    output, chance = flipper.world.place.output, random.Random(seed)
    named = set()
    for name, (kind, paths) in flipper.objects.items():
        for path in paths if name != "metrics of evaluations" else ():
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            named.add(str(output / kind.checked_as(path.relative_to(output).as_posix())))
    verified = fewshot("verify", output).result
    missed = named - {each["path"] for run in verified["runs"] for each in run["damaged"]}
    failed = [outcome.messages for outcome in flipper.world.run_all() if outcome.code != 0]
    files = {path: output / path for path in flipper.original if not MEASURED.search(path)}
    changed = [path for path, file in files.items() if file.exists() and file.read_bytes() != flipper.original[path]]
    after = fewshot("verify", output)
    return [*sorted(missed), *failed, *changed, *([] if after.code == 0 else [after.messages])]


def table_of(found: Sequence[Flip], flipper: Flipper) -> Table:
    """Return the outcomes by kind."""
    table = Table("kind", "objects", "flips", *COLUMNS, "verify finds")
    for name in [*sorted(flipper.objects), "all"]:
        some = [flip for flip in found if name in (flip.kind, "all")]
        counts = Counter(flip.outcome for flip in some)
        objects = len(flipper.objects[name][1]) if name != "all" else len(flipper.original)
        verified = sum(flip.is_verified for flip in some)
        table.add_row(name, *map(str, (objects, len(some), *(counts[each] for each in COLUMNS), verified)))
    return table


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.bit_flips",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="bit-flips-") as folder:
        flipper = Flipper(write_world(Path(folder)))
        found = list(flips(flipper, arguments.flips, arguments.seed))
        Console(width=160).print(table_of(found, flipper))
        silent = [flip for flip in found if flip.is_silent]
        for flip in silent[:20]:
            sys.stdout.write(f"{flip}\n")
        wrong = [*flipper.unknown(), *unrepaired(flipper, arguments.seed)]
        sys.stdout.write("".join(f"not verified, not repaired or unknown: {each}\n" for each in wrong))
        return 1 if silent or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
