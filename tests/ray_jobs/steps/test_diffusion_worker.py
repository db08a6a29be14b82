"""What a worker of the diffusion model keeps between units."""

from __future__ import annotations

import torch

from ray_jobs.steps import diffusion_worker as worker
from ray_jobs.steps.diffusion_worker import ClassPrompt, DiffusionWorker


def test_of_many_classes_those_that_were_asked_about_last_are_kept(monkeypatch):
    made = []

    def contexts(backbone, prompts, adapter, *, scale):
        made.extend(prompts)
        return torch.zeros(1, 1, 1)

    monkeypatch.setattr("fewshot.diffusion.noise_errors.class_contexts", contexts)
    monkeypatch.setattr(worker, "CLASSES_KEPT", 2)
    here = DiffusionWorker(store=None, backbone=None)
    for prompt in ["a", "b", "a", "c", "a", "b"]:
        here.ready(ClassPrompt(prompt))
        assert len(here.known) <= 2
    assert made == ["a", "b", "c", "b"]
