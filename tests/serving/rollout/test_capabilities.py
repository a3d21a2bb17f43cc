import pytest

from serving.rollout.capabilities import GATEWAY, KNATIVE, KSERVE, Capabilities, choose, discover
from serving.rollout.errors import RolloutRefused
from tests.serving.rollout.conftest import World

EVERYTHING = frozenset({KSERVE, GATEWAY, KNATIVE})
NEW, OLD = (0, 21), (0, 20)


@pytest.mark.parametrize(
    ("apis", "kserve", "transformer", "experiment", "chosen"),
    [
        (EVERYTHING, NEW, True, True, "httproute"),
        (EVERYTHING, None, False, False, "httproute"),
        ({KSERVE, GATEWAY}, OLD, True, True, "httproute"),
        ({KSERVE, KNATIVE}, NEW, False, False, "knative"),
    ],
)
def test_the_best_that_the_cluster_allows_is_chosen(apis, kserve, transformer, experiment, chosen) -> None:
    assert (
        choose(Capabilities(apis=frozenset(apis), kserve=kserve), transformer=transformer, experiment=experiment)
        == chosen
    )


@pytest.mark.parametrize(
    ("strategy", "apis", "kserve", "transformer", "experiment", "said"),
    [
        ("httproute", {KSERVE, KNATIVE}, NEW, False, True, "needs the API gateway.networking.k8s.io/v1"),
        ("httproute", {GATEWAY}, None, False, True, "needs the API serving.kserve.io/v1beta1"),
        ("standard-canary", EVERYTHING, NEW, False, True, "users stay in none: an A/B test needs 'httproute'"),
        ("standard-canary", EVERYTHING, NEW, True, False, "leaves the transformer out"),
        ("standard-canary", EVERYTHING, OLD, False, False, "needs KServe 0.21, here is 0.20"),
        ("standard-canary", EVERYTHING, None, False, False, "cannot be told: say which it is"),
        ("knative", EVERYTHING, NEW, False, True, "draws an arm for every request"),
        ("knative", EVERYTHING, NEW, True, False, "splits transformer and predictor apart"),
        ("knative", {KSERVE, GATEWAY}, NEW, False, False, "needs the API serving.knative.dev/v1"),
        ("blue-green", EVERYTHING, NEW, False, False, "unknown: use one of httproute"),
        (
            "auto",
            {KSERVE, KNATIVE},
            NEW,
            True,
            False,
            "'httproute' needs.*; 'standard-canary' needs.*; 'knative' splits",
        ),
    ],
)
def test_an_unsafe_choice_is_refused_with_its_reason(strategy, apis, kserve, transformer, experiment, said) -> None:
    has = Capabilities(apis=frozenset(apis), kserve=kserve)
    with pytest.raises(RolloutRefused, match=said):
        choose(has, transformer=transformer, experiment=experiment, strategy=strategy)


def test_the_newest_strategy_is_used_where_all_it_needs_is_there() -> None:
    has = Capabilities(apis=EVERYTHING, kserve=NEW)
    assert choose(has, transformer=False, experiment=False, strategy="standard-canary") == "standard-canary"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("docker.io/kserve/kserve-controller:v0.21.1", (0, 21)),
        ("mirror.example.com:5000/kserve/kserve-controller:v0.9.0-rc0@sha256:00", (0, 9)),
        ("kserve/kserve-controller:latest", None),
        ("kserve/kserve-controller@sha256:0011", None),
    ],
)
def test_the_version_of_kserve_is_that_of_its_controller(routed: World, image: str, version: tuple | None) -> None:
    spec = {"template": {"spec": {"containers": [{"image": "kube-rbac-proxy:v1.2.3"}, {"image": image}]}}}
    controller = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": spec}
    routed.server.store.create(("apps/v1", "deployments", "kserve", "kserve-controller-manager"), controller)
    assert discover(routed.cluster()).kserve == version


def test_what_may_not_be_read_is_not_known_and_what_is_said_is_believed(routed: World) -> None:
    routed.server.faults = lambda call: "403" if "deployments" in call.path else None
    assert discover(routed.cluster()).kserve is None
    has = discover(routed.cluster(), kserve_version="0.21.0")
    assert has.kserve == (0, 21)
    assert {KSERVE, GATEWAY} <= has.apis
    assert KNATIVE not in has.apis
