"""Execute a notebook in this process and store its outputs: `python -m tools.notebook docs/python.ipynb`.

Cells run one after the other in one namespace, in a temporary folder; the value of a cell's last expression is its
output, as text, and as HTML where the value offers it. Just what the notebook of the documents needs, without Jupyter.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any


def run_notebook(path: Path) -> list[dict[str, Any]]:
    """Run the code cells of a notebook in the current folder.

    Returns:
        The cells, with new outputs.
    """
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            count += 1
            cell["outputs"] = _outputs("".join(cell["source"]), namespace, f"{path.name}, cell {count}", count)
            cell["execution_count"] = count
    return cells


def _outputs(source: str, namespace: dict[str, Any], name: str, count: int) -> list[dict[str, Any]]:
    *body, last = ast.parse(source).body
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        if not isinstance(last, ast.Expr):
            body.append(last)
        exec(compile(ast.Module(body, []), name, "exec"), namespace)  # noqa: S102
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)  # noqa: S307
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        outputs.append({"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data})
    return outputs


def main(arguments: list[str]) -> None:
    """Execute a notebook and write it back."""
    path = Path(arguments[0]).resolve()
    document = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        document["cells"] = run_notebook(path)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
