"""Tables of `registry`."""

from __future__ import annotations

from rich.filesize import decimal
from rich.table import Table

from ray_jobs.console.progress import Reporter
from ray_jobs.console.sanitize import sanitized
from ray_jobs.results.drift_result import DriftResult
from ray_jobs.results.registry_results import (
    ListedVersion,
    Outlook,
    PruneResult,
    RegistryList,
    RegistryMove,
    RetrainResult,
    VersionDetails,
    VersionDiff,
)

SHOWN_CLASSES = 10
"""Classes that a table shows."""
POINT = 0.01
"""Of accuracy."""


def show_versions(reporter: Reporter, result: RegistryList) -> None:
    """Show all versions, and what is in production."""
    if not result.versions:
        reporter.say(f"the registry {result.registry} has no version yet: `fewshot retrain` makes the first")
        return
    table = Table()
    for column in ("", "state", "method", "classes", "examples", "held out", "registered"):
        table.add_column(column, justify="right" if column in ("", "classes", "examples", "held out") else "left")
    for each in result.versions:
        table.add_row(
            str(each.version),
            _state(each),
            each.method,
            f"{each.classes:,}",
            f"{each.examples:,}",
            _percent(each.accuracy),
            f"{each.time[:10]} {sanitized(each.by)}: {sanitized(each.why)}",
        )
    reporter.console.print(table)
    if result.production is None:
        reporter.say("nothing is in production yet")
    elif result.watched:
        reporter.say(f"version {result.production} is in production, and watched: it goes back on evidence of harm")
    else:
        reporter.say(f"version {result.production} is in production")


def show_version(reporter: Reporter, result: VersionDetails) -> None:
    """Show a version, its examples and its entries of the journal."""
    version = result.version
    reporter.say(f"version {version.version} ({_state(version)}): {version.method}, {version.classifier}")
    parent = "the first version" if version.parent is None else f"trained beside version {version.parent}"
    reporter.say(f"{version.examples:,} examples of {version.classes:,} classes; {parent}")
    table = Table(title="examples", title_justify="left")
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    for name, count in list(result.images_of_class.items())[:SHOWN_CLASSES]:
        table.add_row(sanitized(name), f"{count:,}")
    reporter.console.print(table)
    if (more := len(result.images_of_class) - SHOWN_CLASSES) > 0:
        reporter.say(f"and {more:,} more classes")
    for line in result.moves:
        reporter.say(f"{_minute(line.time)}, {line.by} (entry {line.sequence}): {line.did}")
        reporter.say(f"    why: {line.why}")
        if line.evidence is not None:
            reporter.say(f"    evidence: {line.evidence}")


def show_diff(reporter: Reporter, result: VersionDiff) -> None:
    """Show how two versions differ."""
    reporter.say(f"version {result.before} → {result.after}")
    reporter.say(f"examples: {result.added:,} added, {result.removed:,} removed, {result.relabelled:,} relabelled")
    for title, names in (("new classes", result.new_classes), ("removed classes", result.removed_classes)):
        if names:
            reporter.say(f"{title}: {', '.join(map(sanitized, names))}")
    if result.renamed:
        reporter.say("renamed: " + ", ".join(f"{sanitized(old)} → {sanitized(new)}" for old, new in result.renamed))
    for name, (before, after) in result.settings.items():
        if name != "accuracy":
            reporter.say(f"{name}: {sanitized(str(before))} → {sanitized(str(after))}")
        elif isinstance(before, float) and isinstance(after, float):
            reporter.say(f"accuracy on held-out examples, each on its own: {_percent(before)} → {_percent(after)}")


def show_move(reporter: Reporter, result: RegistryMove) -> None:
    """Show what a command moved, and what is in production now."""
    reporter.say(f"{result.did}; {_in_production(result.production)}")


def show_pruning(reporter: Reporter, result: PruneResult) -> None:
    """Show which classifiers stay and why, and which are removed, or would be."""
    if not result.versions:
        reporter.say("there is no version yet, so nothing to remove")
        return
    goes = "would be removed" if result.dry_run else "removed"
    table = Table()
    table.add_column("", justify="right")
    for column in ("state", "classifier", "why"):
        table.add_column(column)
    for each in result.versions:
        table.add_row(str(each.version), each.state, "stays" if each.stays else goes, sanitized(each.why))
    reporter.console.print(table)
    count = f"{len(result.folders):,} folder{'s' * (len(result.folders) != 1)}, {decimal(result.bytes)}"
    reporter.say(f"{goes}: {count}{'; nothing was changed' if result.dry_run else ''}")


def show_drift(reporter: Reporter, result: DriftResult) -> None:
    """Show what a comparison with the reference found."""
    for sentence in result.sentences:
        reporter.say(sentence, style="red" if sentence.startswith("ALARM") else None)
    if result.page is not None:
        reporter.say(f"page: {result.page}")
    if result.webhook not in (None, "sent"):
        reporter.say(f"webhook: {result.webhook}", style="yellow")


def show_turn(reporter: Reporter, result: RetrainResult) -> None:
    """Show what a turn decided, and what is in production."""
    if not result.steps:
        reporter.say("labels: nothing to decide: no label and no setting changed since the last turn")
    for step in result.steps:
        about = "labels" if step.version is None else f"version {step.version}"
        style = "yellow" if step.step in ("refuse", "reject", "roll back") else None
        reporter.say(f"{about}: {step.step}: {sanitized(step.why)}", style=style)
    if result.refused:
        reporter.say("correct or undo these labels (fewshot review), or accept them: fewshot retrain --accept-labels")
    for outlook in result.outlook:
        reporter.say(outlook_sentence(outlook, images=result.images))
    watched = ", watched: it goes back on evidence of harm" if result.watched else ""
    reporter.say(f"in production: version {result.production}{watched}")
    if result.churn is not None:
        flipped, images = result.churn.flipped, result.churn.images
        reporter.say(f"{flipped:,} of {images:,} labels changed since the version before: {result.churn.page}")
    done = {"nothing": "all labelled before", "everything": "labelled anew", "rest": "labelled as far as needed"}
    reporter.say(f"{result.images:,} images, {done.get(result.did, 'labelled as far as needed')}: {result.run}")


def outlook_sentence(outlook: Outlook, *, images: int) -> str:
    """Return how many labels a gain would take to show; never more than the archive has images to label."""
    points = f"{100 * outlook.gain:g} point{'s' * (outlook.gain != POINT)}"
    if outlook.labels is None:
        return f"a gain of {points} is not shown by any number of labels"
    if outlook.labels > images:
        return f"a gain of {points} takes more labels to show than the archive has images ({images:,})"
    return f"a gain of {points} takes about {outlook.labels:,} labels to show"


def _state(version: ListedVersion) -> str:
    return f"{version.state}, by hand" if version.is_forced else version.state


def _in_production(version: int | None) -> str:
    return f"in production: {'nothing' if version is None else f'version {version}'}"


def _minute(time: str) -> str:
    """A UTC time of the journal, to the minute."""
    return f"{time[:16].replace('T', ' ')} UTC"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
