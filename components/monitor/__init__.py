"""Drift between a reference and a current window, and whether the monitor can be believed."""
