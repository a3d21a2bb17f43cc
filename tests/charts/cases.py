"""The matrix: what teams install, on clusters that have everything, nothing, or one thing alone."""

from typing import Any

from tests.charts.rendering import APIS, Case

DIGEST = "sha256:" + "0123456789abcdef" * 4
DIGESTS: dict[str, Any] = {
    "images": {name: {"digest": DIGEST} for name in ("control", "data", "train", "serve", "serveCuda", "redis")},
    "pipelines": {"install": "none"},  # those of a checkout are not compiled with digests
}
CONTROL = {"name": "r42", "storageUri": "oci://models.example.com/shop:r42", "hash": "0c4f8a65"}
TREATMENT = {
    "name": "r43",
    "storageUri": "s3://models/shop/9b1e77aa/",
    "hash": "9b1e77aa",
    "featureService": {"name": "recommender_r43", "hash": "5d1e"},
}
TWO_ARMS: dict[str, Any] = {
    "featureStore": {"registrySecret": "feast-registry"},
    "serving": {"owner": "chart", "releases": {"control": CONTROL, "treatment": TREATMENT}, "treatmentShare": 10},
}
SCALED: dict[str, Any] = {
    "serving": {
        "owner": "chart",
        "releases": {"control": CONTROL},
        "autoscaling": {"mostReplicas": 8},
        "gpus": 1,
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
}
OUTSIDE: dict[str, Any] = {
    "redis": {"address": "redis.example.com:6380", "tls": True, "secret": "their-redis"},
    "featureStore": {"registrySecret": "feast-registry", "replicas": 1},
    "objectStore": {"identityAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/shop"}},
    "training": {
        "checkpoints": {"create": False},
        "queue": {"clusterQueue": "gpu-training"},
        "nodeSelector": {"a": "b"},
    },
    "images": {"pullSecrets": ["pull"]},
    "monitoring": {"labels": {"release": "kube-prometheus-stack"}},
}
NOTHING: dict[str, Any] = {
    "pipelines": {"install": "none", "records": {"create": False}},
    "training": {"runtime": False, "checkpoints": {"create": False}},
    "featureStore": {"enabled": False},
    "redis": {"enabled": False},
    "serving": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "monitoring": {"dashboard": False},
}
OPERATOR: dict[str, Any] = {"featureStore": {"operator": {"secret": "feast-stores"}}, "objectStore": {"secret": "s3"}}
NO_PASSWORD: dict[str, Any] = {"redis": {"secret": "", "storageClass": "fast"}, "objectStore": {"ports": [443, 9000]}}
LONG = "a.release-name-of-forty-characters".ljust(40, "z")

CASES = [
    Case(name="default"),
    Case(name="default-bare", apis=()),
    *(Case(name=f"only-{api.partition('.')[0]}", apis=(api,)) for api in APIS),
    *(
        Case(name=f"without-{api.partition('.')[0]}", apis=tuple(other for other in APIS if other != api))
        for api in APIS
    ),
    Case(name="cpu", presets=("cpu",)),
    Case(name="cpu-bare", presets=("cpu",), apis=()),
    Case(name="gpu", presets=("gpu",), values=DIGESTS),
    Case(name="gpu-two-arms", presets=("gpu",), values={**DIGESTS, **TWO_ARMS}),
    Case(name="airgap-cpu", presets=("cpu", "airgap"), values=DIGESTS),
    Case(name="airgap-gpu", presets=("gpu", "airgap"), values=DIGESTS),
    Case(name="two-arms", values=TWO_ARMS),
    Case(name="two-arms-no-gateway", values=TWO_ARMS, apis=("serving.kserve.io/v1beta1",)),
    Case(name="scaled", values=SCALED),
    Case(name="outside", values=OUTSIDE),
    Case(name="outside-bare", values=OUTSIDE, apis=()),
    Case(name="operator", values=OPERATOR),
    Case(
        name="operator-absent", values={"featureStore": {"operator": {"secret": "s"}, "registrySecret": "r"}}, apis=()
    ),
    Case(name="no-password", values=NO_PASSWORD),
    Case(name="nothing", values=NOTHING),
    Case(name="upload", values={"pipelines": {"install": "upload"}}),
    Case(name="long", values=TWO_ARMS, release=LONG),
    Case(name="longest", values={"featureStore": {"registrySecret": "r"}}, release="b" * 53),
    Case(name="renamed", values={"fullnameOverride": "mine", "serving": {"service": "feed"}}, release="nextpage"),
]
