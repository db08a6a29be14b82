"""Pages of the classes beside a report: a table of all of them, and for each one its images, sorted by certainty.

They are written on request, since 12,000 pictures take a minute or more and 25 to 45 MB. What they cost is bounded,
whatever the size of the archive: see `class_members`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.output.layout import CLASS_PAGES, CLASS_TABLE, Spot
from ray_jobs.output.runs import Run
from ray_jobs.report.class_members import CLASSES, ClassMembers, find_members, images_of_a_class
from ray_jobs.report.image_sample import ROWS, Labelled, by_shard
from ray_jobs.report.page_templates import render_page
from ray_jobs.report.pictures import ARCHIVE_SIDE, archive_pictures
from ray_jobs.report.report_data import Contents

PAGE = 60
"""Images of a page."""


def write_class_pages(run: Run, contents: Contents) -> int:
    """Write the pages of the classes of a run; the table of all of them comes last.

    Args:
        run: a complete one, so that its predictions, and with them these pages, stay as they are.
        contents: of its report.

    Returns:
        the number of pages.

    Raises:
        JobError: the run is not complete, or a part of its predictions is damaged.
        StorageError: storage does not respond.
    """
    if not run.is_complete:
        raise JobError([f"{run.url} is not complete. Run the job again, then write the pages of its classes."])
    labels = contents.metrics.labels
    names = list(islice(labels, CLASSES))
    members = find_members(run.store, run.prediction_parts(), names, has_scores=contents.has_scores)
    pictures = _pictures(run.store, contents, members)
    written = 0
    for number, each in enumerate(members, 1):
        for name, page in _pages(number, each, pictures):
            run.store.put(f"{run.folder}/{CLASS_PAGES}/{name}", page)
            written += 1
    run.store.put(f"{run.folder}/{CLASS_TABLE}", _table(contents, members))
    return written + 1


def page_name(number: int, page: int) -> str:
    """Return the name of a page.

    Args:
        number: of the class, from 1, the most frequent one first.
        page: from 1.
    """
    return f"{number:04}-{page}.html"


def _pictures(store: Store, contents: Contents, members: list[ClassMembers]) -> dict[Spot, str]:
    if contents.job.archive is None:
        return {}
    wanted = by_shard((row.spot, row.image) for each in members for row in each.shown)
    return archive_pictures(contents.job.archive, wanted, store.storage)


def _table(contents: Contents, members: list[ClassMembers]) -> bytes:
    labels, mistakes = contents.metrics.labels, contents.mistakes
    left_out = sum(labels.values()) - sum(labels[each.name] for each in members)
    return render_page(
        "class_table.html",
        name=contents.job.job.name,
        classes=members,
        most=images_of_a_class(len(members)),
        some_are_left_out=any(each.between for each in members),
        left_out=len(labels) - len(members),
        images_left_out=left_out,
        has_scores=any(each.mean_score is not None for each in members),
        counts=None if mistakes is None else {each.name: each for each in mistakes.classes},
        page_name=page_name,
    )


def _pages(number: int, members: ClassMembers, pictures: Mapping[Spot, str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each page of a class; one without images has one, too."""
    pages = max(1, -(-len(members.shown) // PAGE))
    names = {page: page_name(number, page) for page in range(1, pages + 1)}
    for page, name in names.items():
        rows = members.shown[(page - 1) * PAGE : page * PAGE]
        content = render_page(
            "class_page.html",
            **{"class": members},
            groups=_groups(members, rows, (page - 1) * PAGE),
            page=page,
            pages=pages,
            before=names.get(page - 1),
            after=names.get(page + 1),
            pictures=pictures,
            missing=sum(row.spot not in pictures for row in rows),
            side=ARCHIVE_SIDE,
            first_rows=ROWS,
        )
        yield name, content


def _groups(members: ClassMembers, rows: tuple[Labelled, ...], start: int) -> list[tuple[str, tuple[Labelled, ...]]]:
    """Return the images of a page with their titles: in two groups where images between them are left out."""
    if not members.between:
        return [("By falling certainty", rows)]
    sure = max(0, len(members.sure) - start)
    groups = [("The most certain", rows[:sure]), ("The least certain", rows[sure:])]
    return [(title, group) for title, group in groups if group]
