"""Ask a cluster whether it would take the chart: rendered for the APIs that it serves, then a dry run on its server.

`make chart-verify KUBECONFIG=~/.kube/config NAMESPACE=team VALUES="-f mine.yaml"`. Needs `helm` and `kubectl` on the
PATH, and writes nothing to the cluster. Objects of kinds that the cluster does not know are not rendered.
"""

import argparse
import subprocess
import sys
from pathlib import Path

CHART = Path(__file__).parent / "nextpage"


def verify(kubeconfig: str, namespace: str, values: list[str], *, helm: str, kubectl: str) -> int:
    """kubectl's exit status. Raises CalledProcessError where the cluster or the chart cannot be read."""
    asked = [kubectl, f"--kubeconfig={kubeconfig}"]
    served = _output([*asked, "api-versions"]).split()
    apis = [f"--api-versions={api}" for api in served]
    objects = _output([helm, "template", "nextpage", str(CHART), f"--namespace={namespace}", *apis, *values])
    kinds = [line for line in objects.splitlines() if line.startswith("kind: ")]
    print(f"{len(kinds)} objects, for a cluster that serves {len(served)} APIs", flush=True)
    dry = ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict"]
    return subprocess.run(
        [*asked, *dry, f"--namespace={namespace}", "--filename=-"], input=objects, text=True, check=False
    ).returncode


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--namespace", default="nextpage")
    parser.add_argument("--helm", default="helm")
    parser.add_argument("--kubectl", default="kubectl")
    known, passed_on = parser.parse_known_args()
    sys.exit(verify(known.kubeconfig, known.namespace, passed_on, helm=known.helm, kubectl=known.kubectl))
