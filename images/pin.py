"""Ask registries for the digests of the images' bases, and write them into images/bases.yaml: `python images/pin.py`.

A tag moves, a digest does not: what is written here is what every build from now on stands on, until this is run again.
"""

import re
import sys
from pathlib import Path

import httpx
import yaml

BASES = Path(__file__).parent / "bases.yaml"
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)
DOCKER_HUB = {"docker.io": "registry-1.docker.io"}


def main(bases: Path = BASES) -> None:
    text = bases.read_text()
    for name, base in yaml.safe_load(text).items():
        found = digest(base["image"])
        print(f"{base['image']}@{found}" + (" as it was" if found == base["digest"] else ""))
        text = re.sub(rf'(?m)^({name}: .*digest: )"[^"]*"', rf'\1"{found}"', text)
    bases.write_text(text)


def digest(image: str) -> str:
    """What the registry of `image`, registry/repository:tag, has under that tag for all platforms.

    The OCI distribution's HEAD /v2/<repository>/manifests/<tag>, with an anonymous token where one is asked. Exits
    where the registry tells none.
    """
    registry, _, rest = image.partition("/")
    repository, _, tag = rest.partition(":")
    scheme = "http" if registry.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{DOCKER_HUB.get(registry, registry)}/v2/{repository}/manifests/{tag}"
    with httpx.Client(headers={"Accept": MANIFESTS}, follow_redirects=True, timeout=30.0) as client:
        try:
            said = client.head(url)
            if said.status_code == 401:
                realm, *scope = re.findall(r'(?:realm|service|scope)="([^"]*)"', said.headers["WWW-Authenticate"])
                token = client.get(realm, params=dict(zip(("service", "scope"), scope, strict=True)))
                said = client.head(url, headers={"Authorization": f"Bearer {token.raise_for_status().json()['token']}"})
            return str(said.raise_for_status().headers["Docker-Content-Digest"])
        except (httpx.HTTPError, LookupError, ValueError) as failure:
            sys.exit(f"{url} tells no digest of {image} ({failure!r}): is its name in images/bases.yaml right?")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
