"""A worker of the diffusion model keeps the classes used last between units."""

from __future__ import annotations

import torch

from ray_jobs.steps import diffusion_worker as worker
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionWorker


def test_the_classes_used_last_stay_loaded(monkeypatch):
    made = []

    def contexts(backbone, prompts, adapter, *, scale):
        made.extend(prompts)
        return torch.zeros(1, 1, 1)

    monkeypatch.setattr("fewshot.diffusion.noise_errors.class_contexts", contexts)
    monkeypatch.setattr(worker, "MAX_LOADED_CLASSES", 2)
    here = DiffusionWorker(store=None, backbone=None)
    for prompt in ["a", "b", "a", "c", "a", "b"]:
        here.load_class(ClassPrompt(prompt))
        assert len(here.loaded) <= 2
    assert made == ["a", "b", "c", "b"]
