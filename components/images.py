"""The images that steps run in, one a set of dependencies (docs/images.md).

NEXTPAGE_DIGESTS, the file that `make images` writes, names them by registry and digest when pipelines are compiled or
submitted; without it they are named by tag.
"""

import os
from pathlib import Path

import yaml

REGISTRY = "ghcr.io/nextpage"
TAG = "0.1.0-python3.11"
"""Of every image. KFP warns that it cannot run a function in an image whose name does not hold "python"."""


def image(name: str) -> str:
    """The reference of one of our images. Raises ValueError where NEXTPAGE_DIGESTS does not have it."""
    path = os.environ.get("NEXTPAGE_DIGESTS")
    if not path:
        return f"{REGISTRY}/{name}:{TAG}"
    images = yaml.safe_load(Path(path).read_text())["images"]
    if name not in images:
        raise ValueError(f"{path} has no image {name!r}: push all of them, make images REGISTRY={images['registry']}")
    return f"{images['registry']}/{name}@{images[name]['digest']}"


CONTROL = image("control")
"""Decides and acts: gates, rollouts, releases, reports. No PyTorch."""
DATA = image("data")
"""Reads and checks the log: Feast, Great Expectations, Evidently, Spark; PyTorch for CPUs."""
TRAIN = image("train")
"""Learns and measures: PyTorch with CUDA, DeepSpeed, text encoders."""
