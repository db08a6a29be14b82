"""Retraining on a schedule: cron expressions, what is due, a scheduler on this machine, units of systemd."""
