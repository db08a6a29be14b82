"""Escalation: a diffusion model scores the images of which the classifier is least certain."""

from ray_jobs.escalation.escalate import Escalation, escalation_identity

__all__ = ["Escalation", "escalation_identity"]
