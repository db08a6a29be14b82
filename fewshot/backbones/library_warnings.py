"""Warnings of libraries that load weights: read by the user as lines of the log, not swallowed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""Kinds that concern the code of a library and not the weights that it loads."""


@contextmanager
def library_warnings_logged(loading: str) -> Iterator[None]:
    """Log each warning that is raised inside, once, except those `FOR_DEVELOPERS`.

    Args:
        loading: name of the model that is being loaded.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            messages = [str(each.message) for each in caught if not issubclass(each.category, FOR_DEVELOPERS)]
            for message in dict.fromkeys(messages):
                logger.warning("loading=%r warning=%r", loading, " ".join(message.split())[:500])
