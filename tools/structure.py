"""How a checkout is built, in numbers, and how that differs from an earlier revision.

    python -m tools.structure [ROOT] [--against REVISION] [--json]

It reads the Python files of the three packages, runs none of them, and prints a table: modules a folder, import circles
(`tools.import_graph` says what is an edge), module names that stand for two things, private words
(`tools.private_words` has the list), `dict[str, Any]`, small files, and the sizes of files and functions. Below the
table it lists what it found in ROOT. With `--against` the table has a column for that revision of the same repository
as well; with `--json` everything is printed as JSON, each private word in a text with its line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

from tools.code_counts import annotation_counts, code_lines, function_lines, modules_by_folder
from tools.import_graph import Circle, import_circles
from tools.private_words import PrivateWord, words_in_names, words_in_text
from tools.source_trees import PACKAGES, Sources, is_init, read_folder, read_revision

SMALL = 20
"""Code lines that a file should have, or else be part of its neighbour."""
METHOD_FILES = frozenset({"classifier", "config", "functional", "method"})
"""The names of a method's files, the same in each folder below one named `methods`."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lines of several files or functions: how many there are, the median, the maximum, and which that is."""

    number: int
    median: float
    maximum: int
    largest: str


@dataclass(frozen=True, slots=True)
class Structure:
    """The numbers of a tree.

    Attributes:
        folders: of each folder, its modules, `__init__` not counted.
        circles: import circles between files.
        double_names: package and module name, such as "cluster: trials", to the modules that share it.
        words_in_names: private words in public names.
        words_in_text: private words in docstrings and other strings.
        dicts: of each package, how often it has `dict[str, Any]`.
        mappings: of each package, how often it has `Mapping[str, Any]`.
        small_files: files with fewer code lines than `SMALL`, to their number; no `__init__`.
        file_lines: all lines of files, no `__init__`.
        function_lines: lines of functions and methods from `def` to their end, docstrings not counted.
    """

    folders: dict[str, int]
    circles: list[Circle]
    double_names: dict[str, list[str]]
    words_in_names: list[PrivateWord]
    words_in_text: list[PrivateWord]
    dicts: dict[str, int]
    mappings: dict[str, int]
    small_files: dict[str, int]
    file_lines: Sizes
    function_lines: Sizes


def measure(sources: Sources) -> Structure:
    """Measure a tree.

    Raises:
        SyntaxError: a file is not Python; `filename` says which.
    """
    modules = {path: source for path, source in sources.items() if not is_init(path)}
    return Structure(
        folders=modules_by_folder(sources),
        circles=import_circles(sources),
        double_names=double_names(sources),
        words_in_names=words_in_names(sources),
        words_in_text=words_in_text(sources),
        dicts=annotation_counts(sources, "dict[str, Any]"),
        mappings=annotation_counts(sources, "Mapping[str, Any]"),
        small_files={path: lines for path, lines in code_lines(modules).items() if lines < SMALL},
        file_lines=_sizes({path: len(source.splitlines()) for path, source in modules.items()}),
        function_lines=_sizes(function_lines(sources)),
    )


def double_names(sources: Sources) -> dict[str, list[str]]:
    """Find the module names that stand for two things: the same in two folders of one package.

    `__init__` and `__main__` are as Python calls them, and `METHOD_FILES` as every method does.
    """
    paths: dict[str, list[str]] = defaultdict(list)
    for path in sorted(sources):
        stem = PurePosixPath(path).stem
        if stem not in ("__init__", "__main__") and not is_method_file(path):
            paths[f"{path.split('/')[0]}: {stem}"].append(path)
    return {name: found for name, found in sorted(paths.items()) if len(found) > 1}


def is_method_file(path: str) -> bool:
    """Whether a path is one of the conventional files of a method's folder."""
    return PurePosixPath(path).stem in METHOD_FILES and PurePosixPath(path).parent.parent.name == "methods"


def table(after: Structure, before: Structure | None = None) -> str:
    """Return the numbers as lines of text, with a column for `before` if it is given."""
    structures = [before, after] if before else [after]
    numbers = [_numbers(structure) for structure in structures]
    folders = sorted({folder for structure in structures for folder in structure.folders})
    rows = [("", ["before", "after"])] if before else []
    rows += [(name, [column[name] for column in numbers]) for name in numbers[0]]
    rows += [(f"modules in {folder}/", [str(s.folders.get(folder, "-")) for s in structures]) for folder in folders]
    first = max(len(name) for name, _ in rows)
    widths = [max(len(cells[column]) for _, cells in rows) for column in range(len(structures))]
    return "\n".join(f"{name:{first}}  {_joined(cells, widths)}" for name, cells in rows)


def findings(structure: Structure) -> str:
    """Return what was found, as lines of text: each import circle, each double name, each word, each small file."""
    return "\n".join(line for title, lines in _sections(structure) if lines for line in ("", title, *lines))


def main(arguments: list[str] | None = None) -> int:
    """Print the numbers. Returns 0, or 2 if there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m tools.structure", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="a checkout (default: the working folder)")
    parser.add_argument("--against", metavar="REVISION", help="a git revision of the same repository to compare with")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    try:
        after = measure(read_folder(options.root))
        before = measure(read_revision(options.root, options.against)) if options.against else None
    except (FileNotFoundError, LookupError) as error:
        return _refuse(str(error))
    except SyntaxError as error:
        return _refuse(f"{error.filename}:{error.lineno} is not Python: {error.msg}")
    text = _as_json(after, before) if options.json else f"{table(after, before)}\n{findings(after)}"
    sys.stdout.write(f"{text}\n")
    return 0


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


def _as_json(after: Structure, before: Structure | None) -> str:
    structures: dict[str, Any] = {"before": before, "after": after}
    return json.dumps({name: dataclasses.asdict(one) for name, one in structures.items() if one}, indent=2)


def _numbers(structure: Structure) -> dict[str, str]:
    """The rows that every tree has, in order."""
    largest = max(structure.folders, key=lambda folder: structure.folders[folder])
    doubles = Counter(name.split(":")[0] for name in structure.double_names)
    return {
        **{f"modules directly in {package}/": str(structure.folders.get(package, 0)) for package in PACKAGES},
        "folders with modules": str(sum(modules > 0 for modules in structure.folders.values())),
        "largest folder": f"{largest}/: {structure.folders[largest]}",
        "import circles": str(len(structure.circles)),
        "files in import circles": str(sum(len(circle.files) for circle in structure.circles)),
        **{f"module names for two things in {package}/": str(doubles[package]) for package in PACKAGES},
        "private words in public names": str(len(structure.words_in_names)),
        "private words in docstrings and strings": str(len(structure.words_in_text)),
        **{f"dict[str, Any] in {package}/": str(structure.dicts.get(package, 0)) for package in PACKAGES},
        **{f"Mapping[str, Any] in {package}/": str(structure.mappings.get(package, 0)) for package in PACKAGES},
        f"files under {SMALL} code lines": str(len(structure.small_files)),
        "lines a file: median, maximum": _shown(structure.file_lines),
        "lines a function: median, maximum": _shown(structure.function_lines),
    }


def _joined(cells: list[str], widths: list[int]) -> str:
    return " | ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _sections(structure: Structure) -> Iterator[tuple[str, list[str]]]:
    for circle in structure.circles:
        yield f"import circle of {len(circle.files)} files: {', '.join(circle.files)}", _indented(circle.example)
    doubles = (f"{name}: {', '.join(paths)}" for name, paths in structure.double_names.items())
    yield "module names that stand for two things", _indented(doubles)
    names = (f"{w.path}:{w.line} {w.kind} {w.name}: {w.word} -> {w.standard}" for w in structure.words_in_names)
    yield "private words in public names", _indented(names)
    counts = Counter((word.word, word.standard) for word in structure.words_in_text).most_common()
    texts = (f"{number:4} {word} -> {standard}" for (word, standard), number in counts)
    yield "private words in docstrings and strings (each with its line: --json)", _indented(texts)
    small = (f"{lines:4} {path}" for path, lines in structure.small_files.items())
    yield f"files under {SMALL} code lines", _indented(small)
    yield "longest file and function", _indented([structure.file_lines.largest, structure.function_lines.largest])


def _indented(lines: Iterable[object]) -> list[str]:
    return [f"  {line}" for line in lines]


def _shown(sizes: Sizes) -> str:
    return f"{sizes.median:g}, {sizes.maximum}"


def _sizes(lines: Mapping[str, int]) -> Sizes:
    if not lines:
        return Sizes(0, 0.0, 0, "")
    largest = max(lines, key=lambda name: lines[name])
    return Sizes(len(lines), median(lines.values()), lines[largest], largest)


if __name__ == "__main__":
    sys.exit(main())
