"""`helm test`: only slates from every release are a success."""

from typing import Any

import httpx
import pytest

from tests.charts.scripts import load

predict = load("predict")

SLATE = {"items": [{"item_id": "a"}, {"item_id": "b"}], "release": {"name": "r42"}, "degraded": False, "reason": None}


class Cluster:
    def __init__(self, *services: dict[str, Any]) -> None:
        self.services = services

    def list(self, kind: Any, labels: dict[str, str]) -> list[dict[str, Any]]:
        assert str(kind) == "InferenceService team/"
        assert labels == {"nextpage/service": "shop"}
        return list(self.services)


def arm(name: str, *, ready: bool = True) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"address": {"url": f"http://{name}.team"}} if ready else {}}


def answers(*slates: Any, status: int = 200) -> Any:
    left = list(slates)

    def ask(url: str, *, json: Any, timeout: float) -> httpx.Response:
        assert json == {"instances": [{"k": 2}]}
        said = left.pop(0)
        return httpx.Response(status, json={"predictions": [said]}, request=httpx.Request("POST", url))

    return ask


def result(cluster: Cluster, ask: Any) -> int:
    return predict.main(cluster, "shop", "team", {"k": 2}, ask)


def test_every_release_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert result(Cluster(arm("shop-r42"), arm("shop-r43")), answers(SLATE, SLATE)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shop-r42 serves release r42, by the model: a, b",
        "shop-r43 serves release r42, by the model: a, b",
    ]


@pytest.mark.parametrize(
    ("cluster", "ask", "said"),
    [
        (Cluster(), answers(), "nothing is served as 'shop' yet: run the pipeline"),
        (Cluster(arm("shop-r42", ready=False)), answers(), "kubectl describe inferenceservice shop-r42"),
        (Cluster(arm("shop-r42")), answers(SLATE, status=503), "does not answer with a slate"),
        (Cluster(arm("shop-r42")), answers({"error": "x"}), "does not answer with a slate"),
        (Cluster(arm("shop-r42")), answers({**SLATE, "items": []}), "empty slate"),
        (Cluster(arm("shop-r42")), answers({**SLATE, "items": SLATE["items"] * 2}), "repeated"),
        (Cluster(arm("shop-r42"), arm("shop-r43")), answers(SLATE, {**SLATE, "items": []}), "shop-r43 answers"),
    ],
)
def test_anything_less_is_a_failure_that_says_what_to_do(
    cluster: Cluster, ask: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert result(cluster, ask) == 1
    assert said in capsys.readouterr().out


def test_a_slate_from_popularity_is_one_and_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert result(Cluster(arm("shop-r42")), answers({**SLATE, "degraded": True, "reason": "no_history"})) == 0
    assert "by popularity, no_history" in capsys.readouterr().out
