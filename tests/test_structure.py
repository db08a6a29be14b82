"""How the tree is built: the tools that measure it, on made-up trees, and what must hold for the real one."""

import json
import shutil
import subprocess
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources import ROOT
from tools.code_counts import annotation_counts, code_lines, function_lines, modules_by_folder
from tools.import_graph import import_circles, import_graph
from tools.private_words import GLOSSARY, ONLY_NAMES, WHOLE_NAMES, private_words, words_in_names, words_in_text
from tools.source_trees import read_folder, read_revision
from tools.structure import double_names, is_method_file, main, measure, table

KINDS = ("folder", "module", "class", "function", "method", "parameter", "field", "constant")
STORE = "class Store:\n    pass\n"


def circles(sources):
    """Of each import circle, its files and the lines of its example."""
    return [(circle.files, [str(line) for line in circle.example]) for circle in import_circles(sources)]


@pytest.mark.parametrize(
    "imported",
    [
        "from cluster.retry import Retry",
        "from cluster import retry",
        "from . import retry",
        "from .retry import Retry as Again",
        "import cluster.retry",
        "import cluster.retry as again",
        "if TYPE_CHECKING:\n    from cluster.retry import Retry",
        "def f():\n    from cluster.retry import Retry",
        "class A:\n    def f(self):\n        import cluster.retry",
        "again = import_module('cluster.retry')",
        "again = importlib.import_module('cluster.retry')",
        "from cluster import Retry",
        "from . import Retry",
        "import cluster\n\n\ndef f(again: cluster.Retry): ...",
        "import cluster as c\n\n\ndef f(again: c.retry.Retry): ...",
    ],
)
def test_a_circle_is_found_however_it_is_imported(imported):
    sources = {
        "cluster/__init__.py": "from cluster.retry import Retry\nfrom cluster.store import Store\n",
        "cluster/retry.py": "from cluster.store import Store\n",
        "cluster/store.py": imported,
    }
    line = next(number for number, text in enumerate(imported.split("\n"), 1) if "import" in text)
    expected = ["cluster/retry.py:1 imports cluster/store.py", f"cluster/store.py:{line} imports cluster/retry.py"]
    assert circles(sources) == [(("cluster/retry.py", "cluster/store.py"), expected)]


def test_a_door_is_in_no_circle():
    sources = {
        "cluster/__init__.py": "from cluster.ledger import Ledger\nfrom cluster.store import Store\n",
        "cluster/ledger.py": "from cluster import Store\n",
        "cluster/store.py": STORE,
    }
    assert circles(sources) == []


def test_a_name_leads_through_several_doors():
    sources = {
        "cluster/__init__.py": "from cluster.storage import Place\n",
        "cluster/storage/__init__.py": "from .store import Store as Place\n",
        "cluster/storage/store.py": STORE,
        "ray_jobs/runs.py": "import math\nfrom cluster import Place, math\n",
    }
    assert import_graph(sources)["ray_jobs/runs.py"] == {"cluster/storage/store.py": 2, "cluster/__init__.py": 2}


def test_a_lazy_door_leads_to_the_definer():
    lazy = "def __getattr__(name):\n    from cluster.store import Store\n\n    return Store\n"
    sources = {"cluster/__init__.py": lazy, "cluster/store.py": STORE, "ray_jobs/runs.py": "from cluster import Store"}
    assert import_graph(sources)["ray_jobs/runs.py"] == {"cluster/store.py": 1}


def test_an_init_that_defines_something_can_close_a_circle():
    sources = {
        "fewshot/methods/__init__.py": "from fewshot.methods.auto import Auto\n\nMETHODS = {'auto': Auto}\n",
        "fewshot/methods/auto.py": "def f():\n    from fewshot.methods import METHODS\n",
    }
    (found,) = circles(sources)
    assert found[0] == ("fewshot/methods/__init__.py", "fewshot/methods/auto.py")
    assert "fewshot/methods/auto.py:2 imports fewshot/methods/__init__.py" in found[1]


def test_doors_that_export_each_other_end():
    sources = {
        "a/__init__.py": "from b import x\n",
        "b/__init__.py": "from a import x\n",
        "c/d.py": "from a import x\n",
    }
    assert set(import_graph(sources)["c/d.py"]) <= {"a/__init__.py", "b/__init__.py"}


def test_a_module_computed_at_run_time_is_no_edge():
    sources = {"a/__init__.py": "", "a/b.py": "import_module(TABLE[name])\n", "a/c.py": "import a.b\n"}
    assert import_graph(sources)["a/b.py"] == {}


def test_the_example_is_a_shortest_circle():
    sources = {
        "a/b.py": "import a.c\n",
        "a/c.py": "import a.d\n",
        "a/d.py": "import a.b\nimport a.e\n",
        "a/e.py": "import a.d\n",
    }
    assert circles(sources) == [
        (("a/b.py", "a/c.py", "a/d.py", "a/e.py"), ["a/d.py:2 imports a/e.py", "a/e.py:1 imports a/d.py"])
    ]


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7))))
def test_circles_are_the_files_that_reach_each_other(edges):
    sources = {f"a/m{i}.py": "".join(f"import a.m{j}\n" for k, j in sorted(edges) if k == i) for i in range(8)}
    reached = {(i, j) for i, j in edges if i != j}
    for middle in range(8):
        reached |= {(i, j) for i, m in reached for n, j in reached if m == n == middle}
    both = {frozenset(j for j in range(8) if {(i, j), (j, i)} <= reached) | {i} for i in range(8)}
    expected = sorted(tuple(f"a/m{i}.py" for i in sorted(files)) for files in both if len(files) > 1)
    found = import_circles(sources)
    assert [circle.files for circle in found] == expected
    for circle in found:
        assert [line.imported for line in circle.example] == [
            *(line.importer for line in circle.example[1:]),
            circle.example[0].importer,
        ]


def test_a_module_name_in_two_folders_is_found():
    sources = dict.fromkeys(
        (
            "cluster/training.py",
            "fewshot/__init__.py",
            "fewshot/diffusion/__init__.py",
            "fewshot/diffusion/config.py",
            "fewshot/diffusion/training.py",
            "fewshot/methods/ape/functional.py",
            "fewshot/methods/ape/method.py",
            "fewshot/methods/coop/functional.py",
            "fewshot/methods/coop/method.py",
            "fewshot/ship/config.py",
            "fewshot/ship/training.py",
        ),
        "",
    )
    assert double_names(sources) == {
        "fewshot: config": ["fewshot/diffusion/config.py", "fewshot/ship/config.py"],
        "fewshot: training": ["fewshot/diffusion/training.py", "fewshot/ship/training.py"],
    }


@pytest.mark.parametrize("word", GLOSSARY)
def test_each_word_of_the_glossary_is_found(word):
    kinds = [kind for kind in KINDS if kind in WHOLE_NAMES.get(word, KINDS)]
    assert kinds
    assert [private_words(word, kind) for kind in kinds] == [[word]] * len(kinds)
    assert private_words(word, "text") == ([] if word in WHOLE_NAMES or word in ONLY_NAMES else [word])


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("LessonPlans", "class", ["lesson"]),
        ("for_exam", "field", ["exam"]),
        ("MAX_TOLD", "constant", ["told"]),
        ("verdicts", "method", ["verdict"]),
        ("count_left_out", "function", ["left_out"]),
        ("HTTPTicket", "class", ["ticket"]),
        ("examples", "parameter", []),
        ("household", "parameter", []),
        ("held_out", "function", []),
        ("held", "function", ["held"]),
        ("held", "parameter", []),
        ("GroundTruth", "class", []),
        ("read_ground_truth", "function", []),
        ("label_truth", "parameter", ["truth"]),
        ("commands", "folder", []),
        ("commands", "module", ["commands"]),
        ("of", "method", ["of"]),
        ("index_of", "function", []),
        ("suspects", "field", []),
    ],
)
def test_words_are_matched_whole(name, kind, expected):
    assert private_words(name, kind) == expected


def test_private_words_are_found_in_public_names_only():
    source = '''
"""A pupil."""
PUPILS: int = 1
_EXAM = 2
if PUPILS:
    MEMO = 3


class Lesson:
    opinion: str
    _told: str

    @classmethod
    def of(cls, verdict, *asked, **_memo):
        local_memo = verdict

    def __init__(self, contest): ...

    def _convict(self, ticket): ...


class _Private:
    memo: int


def rest(*, forget):
    def inner(memo): ...
'''
    found = words_in_names({"ray_jobs/pupil/left_out.py": source, "ray_jobs/_memo.py": "MEMO = 1"})
    assert [(word.kind, word.name, word.standard) for word in found] == [
        ("folder", "pupil", "class adapter"),
        ("module", "left_out", "unreadable_examples"),
        ("constant", "PUPILS", "class adapter"),
        ("constant", "MEMO", "training cache"),
        ("class", "Lesson", "adapter training"),
        ("field", "opinion", "prediction"),
        ("method", "of", GLOSSARY["of"]),
        ("parameter", "asked", "scored"),
        ("parameter", "verdict", "escalated prediction"),
        ("parameter", "contest", "round state"),
        ("parameter", "forget", "no_cache"),
    ]
    assert {word.path for word in found} == {"ray_jobs/pupil", "ray_jobs/pupil/left_out.py"}


def test_private_words_are_found_in_every_string():
    source = '''"""What is told.

The ground
truth, left out, of two places."""
x = f"{y} nobody"  # memo
z = {"left_out": 1}
'''
    found = words_in_text({"cluster/a.py": source})
    assert [(word.line, word.name, word.word) for word in found] == [
        (1, "told", "told"),
        (5, "nobody", "nobody"),
        (6, "left_out", "left_out"),
    ]


def test_annotations_are_counted_with_their_aliases():
    sources = {
        "cluster/a.py": "Row = dict[str, Any]\n\n\ndef f(a: Row, b: list[dict[str, typing.Any]]) -> Row: ...\n",
        "fewshot/b.py": "from cluster.a import Row\n\nx: Row = {}\ny: Mapping[str, Any]\nz: dict[str, int]\n",
        "fewshot/c.py": "Row = int\nx: Row = 1\n",
        "ray_jobs/d.py": "",
    }
    assert annotation_counts(sources, "dict[str, Any]") == {"cluster": 4, "fewshot": 1, "ray_jobs": 0}
    assert annotation_counts(sources, "Mapping[str, Any]") == {"cluster": 0, "fewshot": 1, "ray_jobs": 0}


def test_code_is_neither_blank_nor_comment_nor_docstring():
    source = '''"""Module.

Two paragraphs.
"""

# A comment.
A = 1
"""Of a constant."""
TEXT = """
# text
"""


def f():  # a comment behind
    """Function."""

    return A
'''
    assert code_lines({"a.py": source}) == {"a.py": 6}
    assert function_lines({"a.py": source}) == {"a.py:14 f": 3}


def test_modules_are_counted_by_folder():
    sources = dict.fromkeys(("a/__init__.py", "a/b/__init__.py", "a/b/c.py", "a/d.py", "a/__main__.py"), "")
    assert modules_by_folder(sources) == {"a": 2, "a/b": 1}


def test_the_table_shows_both_trees_side_by_side():
    before = measure({"cluster/a.py": "import cluster.b\n", "cluster/b.py": "import cluster.a\n"})
    after = measure({"cluster/rooms/a.py": "import cluster.rooms.b\n", "cluster/rooms/b.py": ""})
    lines = [" ".join(line.split()) for line in table(after, before).split("\n")]
    assert lines[0] == "before | after"
    assert len(lines) == len(table(after).split("\n")) + len(["headings", "cluster/"])
    assert "modules directly in cluster/ 2 | 0" in lines
    assert "import circles 1 | 0" in lines
    assert "files in import circles 2 | 0" in lines
    assert "modules in cluster/rooms/ - | 2" in lines


@pytest.fixture
def checkout(tmp_path):
    """A repository whose one commit has an import circle that its files no longer have."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "a.py").write_text("import cluster.b\n")
    (tmp_path / "cluster" / "b.py").write_text("import cluster.a\n")
    (tmp_path / "other.py").write_text("import cluster\n")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "one"]):
        subprocess.run([git, "-C", tmp_path, *command], check=True)
    (tmp_path / "cluster" / "b.py").write_text("MEMO = 1\n")
    return tmp_path


def test_a_revision_is_read_without_touching_the_checkout(checkout):
    assert read_revision(checkout, "HEAD") == {
        "cluster/a.py": "import cluster.b\n",
        "cluster/b.py": "import cluster.a\n",
    }
    assert read_folder(checkout) == {"cluster/a.py": "import cluster.b\n", "cluster/b.py": "MEMO = 1\n"}


def test_the_command_prints_numbers_and_findings(checkout, capsys):
    assert main([str(checkout), "--against", "HEAD"]) == 0
    printed = capsys.readouterr().out
    assert "cluster/b.py:1 constant MEMO: memo -> training cache" in printed
    assert "before | " in printed
    assert main([str(checkout), "--against", "HEAD", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert [len(numbers[tree]["circles"]) for tree in ("before", "after")] == [1, 0]
    assert numbers["after"]["words_in_names"][0]["word"] == "memo"


def test_what_cannot_be_measured_is_refused(checkout, capsys):
    assert main([str(checkout / "cluster")]) == 2
    assert "give the root of a checkout" in capsys.readouterr().err
    assert main([str(checkout), "--against", "nowhere"]) == 2
    assert "cannot read revision 'nowhere'" in capsys.readouterr().err
    (checkout / "cluster" / "b.py").write_text("\n\ndef\n")
    assert main([str(checkout)]) == 2
    assert "cluster/b.py:3 is not Python" in capsys.readouterr().err


PLAIN_WORDS = {
    "answer": "a response of a server is one as well",
    "strength": "of a regularisation, in scikit-learn's words",
}
"""Words of the glossary that public names may have, and why."""
SMALL_FILES = {
    "__main__": "is what `python -m` runs, and nothing else",
    "errors": "holds one base class a package, which every module of it can import without a circle",
    "chunking": "cuts listings of folders and tables of rows alike",
    "shards": "reads what every form of archive lists; each form is a module of its own",
    "interrupts": "is imported by the command and by its groups, and must not import more",
}
"""Names of modules that may be small, and why. The conventional files of a method's folder may be, too."""


@pytest.fixture(scope="module")
def structure():
    """This checkout, measured once."""
    return measure(read_folder(ROOT))


def test_no_files_import_each_other_in_a_circle(structure):
    assert [[str(line) for line in circle.example] for circle in structure.circles] == []


def test_no_module_name_stands_for_two_things(structure):
    assert structure.double_names == {}


def test_public_names_have_no_private_words(structure):
    assert [
        f"{word.path}:{word.line} {word.kind} {word.name}: write {word.standard}"
        for word in structure.words_in_names
        if word.word not in PLAIN_WORDS
    ] == []


def test_no_file_is_too_small_to_stand_alone(structure):
    assert [
        f"{path} has {lines} code lines: move them to a neighbour"
        for path, lines in structure.small_files.items()
        if PurePosixPath(path).stem not in SMALL_FILES and not is_method_file(path)
    ] == []
