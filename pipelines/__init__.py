"""Pipelines composed of components, their compiler, the local runner and the command line."""
