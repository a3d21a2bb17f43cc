"""Drift becomes a retraining run: one at a time, and not too often."""
