"""Tables of `methods` and `models`."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ray_jobs.console.progress import Reporter


def show_methods(reporter: Reporter, result: dict[str, Any]) -> None:
    """The methods."""
    for where, title in (("methods", "classifier.method"), ("escalate", "escalate.method")):
        table = Table("method", "what it does", "hyperparameters (default)", title=title, title_justify="left")
        for name, method in result[where].items():
            chosen = (f"{k} = {'chosen' if v is None else v}" for k, v in method["hyperparameters"].items())
            table.add_row(name, method["summary"], "\n".join(chosen))
        reporter.console.print(table)


def show_models(reporter: Reporter, result: dict[str, Any]) -> None:
    """The backbones."""
    table = Table("model", "pretrained")
    for model, tags in result["models"].items():
        table.add_row(model, ", ".join(tags) or "–")
    reporter.console.print(table)
