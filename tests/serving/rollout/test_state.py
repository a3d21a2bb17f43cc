import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rollout.errors import ReleaseRejected, RolloutRefused
from serving.rollout.release import Autoscaling, Pods, Release, Transformer
from serving.rollout.state import Phase, State, following, from_json, promote, ramp, roll_back, start, to_json
from tests.serving.rollout.conftest import a_release

SETTLED = State(strategy="httproute", stable=a_release("r1"))
NAMES = ("r1", "r2", "r3")


def ramping(percent: int) -> State:
    begun = following(start(SETTLED, a_release("r2")))
    assert begun is not None
    return ramp(begun, "r2", percent) if percent else begun


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("start"), st.sampled_from(NAMES), st.booleans()),
            st.tuples(st.just("ramp"), st.sampled_from(NAMES), st.integers(-5, 120)),
            st.tuples(st.just("promote"), st.sampled_from(NAMES), st.none()),
            st.tuples(st.just("roll_back"), st.sampled_from(NAMES), st.none()),
            st.tuples(st.just("go on"), st.just(""), st.none()),
        ),
        max_size=30,
    )
)
def test_whatever_is_asked_traffic_sums_to_100_and_only_smoked_releases_have_any(asked: list) -> None:
    state, smoked = State(strategy="httproute"), set()
    for verb, name, value in asked:
        try:
            match verb:
                case "start":
                    state = start(state, a_release(name), again=value)
                case "ramp":
                    state = ramp(state, name, value)
                case "promote":
                    state = promote(state, name)
                case "roll_back":
                    state = roll_back(state, name, "asked")
                case "go on":  # is what a smoke test that passed lets happen
                    if state.phase is Phase.STARTING:
                        smoked.add(state.candidate.name)
                    state = following(state) or state
        except (RolloutRefused, ReleaseRejected):
            pass
        assert sum(state.shares.values()) in (0, 100)
        assert {release for release, share in state.shares.items() if share} <= smoked
        assert from_json(to_json(state)) == state


@pytest.mark.parametrize("percent", [-1, 101, 250, True, 12.5, "50", None])
def test_a_percentage_is_a_whole_number_from_0_to_100(percent: object) -> None:
    with pytest.raises(RolloutRefused, match="whole number from 0 to 100"):
        ramp(ramping(0), "r2", percent)


def test_a_ramp_does_not_fall() -> None:
    with pytest.raises(RolloutRefused, match="r2 has 50%: a ramp to 10% would move users back"):
        ramp(ramping(50), "r2", 10)
    assert ramp(ramping(50), "r2", 50) == ramping(50)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: start(ramping(10), a_release("r3")), "r3 cannot start while r2 is ramping at 10%"),
        (lambda: start(SETTLED, a_release("r1", storage_uri="oci://else.example.com/r1")), "give it a new name"),
        (lambda: start(SETTLED, a_release("r1", hash="other")), "give it a new name"),
        (
            lambda: start(SETTLED, a_release("r2", storage_uri=SETTLED.stable.storage_uri, hash="r1")),
            "give each its own",
        ),
        (lambda: ramp(SETTLED, "r2", 10), "r2 is not being rolled out: r1 is stable"),
        (lambda: ramp(start(SETTLED, a_release("r2")), "r2", 10), "r2 is starting: that must end first"),
        (lambda: promote(start(SETTLED, a_release("r2")), "r2"), "r2 is starting"),
        (lambda: roll_back(SETTLED, "r1", ""), "r1 is the stable one"),
        (lambda: roll_back(SETTLED, "r9", ""), "r9 is not being rolled out"),
    ],
)
def test_what_would_be_unsafe_is_refused_in_a_sentence(act, said: str) -> None:
    with pytest.raises(RolloutRefused, match=said):
        act()


def test_a_release_that_was_rolled_back_starts_again_only_on_purpose() -> None:
    state = roll_back(ramping(10), "r2", "CTR fell")
    while (follows := following(state)) is not None:
        state = follows
    assert state.shares == {"r1": 100}
    with pytest.raises(ReleaseRejected, match="CTR fell"):
        start(state, a_release("r2"))
    assert start(state, a_release("r2"), again=True).phase is Phase.STARTING
    with pytest.raises(RolloutRefused, match="give it a new name"):
        start(state, a_release("r2", storage_uri="oci://else.example.com/shop:r2"), again=True)


@pytest.mark.parametrize(
    "uri", ["oci://models/shop:latest", "oci://models/shop", "s3://models/current/", "pvc://models/r22"]
)
def test_a_storage_uri_that_may_be_overwritten_is_refused(uri: str) -> None:
    with pytest.raises(RolloutRefused, match="does not hold release 'r2' alone"):
        a_release("r2", storage_uri=uri)


@pytest.mark.parametrize(
    "uri", ["oci://models/shop:r2", "s3://models/r2/", "oci://models/shop@hash-r2", "pvc://m/hash-r2"]
)
def test_a_storage_uri_that_names_the_release_or_its_hash_is_taken(uri: str) -> None:
    assert a_release("r2", storage_uri=uri).storage_uri == uri


@pytest.mark.parametrize("name", ["R2", "2r", "r_2", "", "r2-", "r.2"])
def test_a_release_name_is_a_dns_label(name: str) -> None:
    with pytest.raises(RolloutRefused, match="no DNS label"):
        Release(name=name, storage_uri=f"oci://models/shop:{name}", hash="h")


def test_a_state_with_every_setting_comes_back_as_it_was() -> None:
    full = a_release(
        "r2",
        pods=Pods(replicas=3, gpus=1, service_account="shop"),
        autoscaling=Autoscaling(prometheus="http://prometheus:9090", most_replicas=9),
        transformer=Transformer(
            image="shop@sha256:0",
            feature_server="http://feast",
            feature_service="f",
            feature_service_hash="h",
            args=("--x",),
        ),
    )
    state = dataclasses.replace(ramping(30), candidate=full, reason="why")
    assert from_json(to_json(state)) == state
