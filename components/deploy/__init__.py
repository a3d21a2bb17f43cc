"""Bring a release up beside the one that serves, and move traffic as records of verdicts say."""
