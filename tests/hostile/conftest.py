"""The place and the tiny CLIP of the tests of jobs."""

from tests.ray_jobs.conftest import place, tiny_clip

__all__ = ["place", "tiny_clip"]
