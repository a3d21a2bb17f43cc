"""Processes on many nodes: a TrainJob of Kubeflow Trainer that is launched once, followed, and found again."""
