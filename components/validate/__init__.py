"""Validate a dataset folder: bad rows to quarantine with a reason, a bad data set stops the run."""
