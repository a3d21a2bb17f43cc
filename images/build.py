"""Build the images, push them, and write what pins them: `python images/build.py --registry REGISTRY`.

A digest is what a registry knows an image by: without `--registry` the images stay on this machine, by their tags.
Under build/images lies then each image's bill of materials, <name>/sbom.json, and after a push digests.yaml, which the
chart takes as values and pipelines as NEXTPAGE_DIGESTS.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.images import REGISTRY, TAG

CUDA = "serve-cuda"
ENGINES = ("docker", "podman", "buildah")
FAMILIES = {
    "control": "components",
    "data": "components",
    "train": "components",
    "serve": "serving",
    CUDA: "serving",
}
"""Whose Dockerfile has an image as its target."""
VALUES = {CUDA: "serveCuda"}
"""The chart's name of an image, where it is another."""
ROOT = Path(__file__).parent.parent
PLATFORM = "linux/amd64"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """docker, podman or buildah, which build alike and tell the digest of what they push each in its own way."""

    name: str

    def build(self, dockerfile: Path, target: str, arguments: Mapping[str, str], *to: str) -> None:
        # OCI's own format has no HEALTHCHECK; layers are what the bill of materials is taken from a second time.
        own = () if self.name == "docker" else ("--format=docker", "--layers")
        what = (f"--platform={PLATFORM}", f"--file={dockerfile}", f"--target={target}")
        self._run("build", *own, *what, *(f"--build-arg={name}={value}" for name, value in arguments.items()), *to, ".")

    def push(self, reference: str, note: Path) -> str:
        """The digest under which the registry took it; `note` is a file that may be written."""
        if self.name != "docker":
            self._run("push", f"--digestfile={note}", reference)
            return note.read_text().strip()
        self._run("push", reference)
        asked = [self.name, "image", "inspect", "--format={{json .RepoDigests}}", reference]
        told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        repository = reference.rpartition(":")[0]
        (pushed,) = (name for name in json.loads(told) if name.startswith(f"{repository}@"))
        return str(pushed.partition("@")[2])

    def _run(self, *command: str) -> None:
        status = subprocess.run([self.name, *command], cwd=ROOT).returncode
        if status:
            sys.exit(f"{self.name} {command[0]} ended with {status}: what it says above has the reason")


def main(arguments: list[str]) -> None:
    asked = parse(arguments)
    engine = Engine(name=asked.engine or found_engine())
    given = build_arguments(asked.bases, asked.torch)
    registry = asked.registry or REGISTRY
    digests: dict[str, str] = {}
    for name in asked.images or [name for name in FAMILIES if not (asked.torch and name == CUDA)]:
        dockerfile = ROOT / FAMILIES[name] / "Dockerfile"
        folder = asked.output / name
        folder.mkdir(parents=True, exist_ok=True)
        reference = f"{registry}/{name}:{TAG}"
        engine.build(dockerfile, name, given, f"--tag={reference}")
        engine.build(dockerfile, f"{name}-sbom", given, f"--output=type=local,dest={folder}")
        if asked.registry:
            digests[name] = engine.push(reference, folder / "digest")
        print(reference, digests.get(name, ""), flush=True)
    if digests:
        path = asked.output / "digests.yaml"
        path.write_text(as_values(registry, digests, given["REVISION"]))
        print(f"{path}: helm … -f {path}; make chart DIGESTS={path}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(FAMILIES)}; by default all")
    parser.add_argument("--registry", help="where to push them; by default they are not pushed")
    parser.add_argument("--engine", choices=ENGINES, help="by default the first that is installed")
    parser.add_argument("--torch", default="", metavar="cpu", help="PyTorch of train, and no image with CUDA")
    parser.add_argument("--bases", type=Path, default=ROOT / "images" / "bases.yaml", help="what the images stand on")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "images", help="for digests and bills")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.images) - set(FAMILIES)):
        parser.error(f"no image {', '.join(unknown)}: there are {', '.join(FAMILIES)}")
    return asked


def found_engine() -> str:
    for name in ENGINES:
        if shutil.which(name):
            return name
    sys.exit(f"nothing here builds images: install one of {', '.join(ENGINES)}")


def build_arguments(bases: Path, torch: str) -> dict[str, str]:
    """What the Dockerfiles ask for. Exits where a base has no digest."""
    said = yaml.safe_load(bases.read_text())
    if moving := [f"{name} ({base['image']})" for name, base in said.items() if not base["digest"]]:
        sys.exit(f"{bases} has no digest of {', '.join(moving)}: run `make images-pin`, look at it and commit it")
    pins = {name.upper(): base["image"] for name, base in said.items()}
    pins |= {f"{name.upper()}_DIGEST": base["digest"] for name, base in said.items()}
    described = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    revision = subprocess.run(described, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    if index := os.environ.get("PIP_INDEX_URL"):
        pins["UV_DEFAULT_INDEX"] = index
    return pins | {"TORCH": torch, "REVISION": revision, "VERSION": TAG.partition("-")[0]}


def as_values(registry: str, digests: Mapping[str, str], revision: str) -> str:
    images = {VALUES.get(name, name): {"digest": digest} for name, digest in digests.items()}
    text = yaml.safe_dump({"images": {"registry": registry, **images}}, sort_keys=False)
    return f"# Images of revision {revision}, written by make images.\n{text}"


if __name__ == "__main__":
    main(sys.argv[1:])
