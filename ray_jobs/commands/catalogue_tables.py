"""Tables of `methods` and `models`."""

from __future__ import annotations

import json

from rich.table import Table

from ray_jobs.commands.catalogue import MethodDescription, MethodList, ModelList
from ray_jobs.console.progress import Reporter

NEEDS = {
    "dense": "the tokens of images before pooling, which are stored beside the features",
    "diffusion": "the text-to-image model under [diffusion]",
    "text_tower": "the text tower of the model under [clip]",
}


def show_methods(reporter: Reporter, result: MethodList) -> None:
    """Show the methods, a line each."""
    for methods, title in ((result.methods, "classifier.method"), (result.escalate, "escalate.method")):
        table = Table("method", "family", "what it does", title=title, title_justify="left")
        for name, method in methods.items():
            table.add_row(name, method.family, method.summary)
        reporter.console.print(table)
    reporter.console.print("fewshot methods NAME describes a method and its hyperparameters.")


def show_method(reporter: Reporter, method: MethodDescription) -> None:
    """Show one method: what it does, what it needs, where it comes from, and its hyperparameters."""
    section = method.key.partition(".")[0]
    chosen = "by cross-validation on the examples" if section == "classifier" else "by the size of the diffusion model"
    lines = [f"{method.name} ({method.family}): {method.summary}", f"set: {method.key}={method.name}"]
    lines += [f"needs: {NEEDS[need]}" for need in method.needs]
    if (source := method.source) is not None:
        lines.append(f"source: {source.title} ({source.year}), {source.url}")
    if not method.hyperparameters:
        lines.append("It has no hyperparameters.")
    reporter.console.print("\n".join(lines))
    if method.hyperparameters:
        title = f"{section}.hyperparameters"
        table = Table("hyperparameter", "type", "default", "meaning", title=title, caption=f"chosen: {chosen}")
        table.title_justify = table.caption_justify = "left"
        for each in method.hyperparameters:
            values = " | ".join(map(json.dumps, each.choices)) or each.type
            default = "chosen" if each.default is None else json.dumps(each.default)
            table.add_row(each.name, values, default, each.summary)
        reporter.console.print(table)


def show_models(reporter: Reporter, result: ModelList) -> None:
    """Show the backbones, with their pretrained weights."""
    table = Table("model", "pretrained")
    for model, tags in result.models.items():
        table.add_row(model, ", ".join(tags) or "–")
    reporter.console.print(table)
