"""The job `evaluate`: methods × shots × seeds on a labelled set."""
