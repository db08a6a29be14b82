"""The expensive opinion: a diffusion model is asked about the images that the classifier is not sure of."""

from ray_jobs.escalation.escalate import Escalation, escalation_identity

__all__ = ["Escalation", "escalation_identity"]
