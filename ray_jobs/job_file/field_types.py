"""What all sections of a job file share: how strictly they are read, and kinds of values."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=False)

Count = Annotated[int, Field(ge=1, strict=True)]
Place = Annotated[str, Field(min_length=1)]
"""A path or a URL. An empty one, such as a variable that is not set, would be whatever folder one is in."""
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]
"""What fits into eight bytes, as random streams are named by them."""
