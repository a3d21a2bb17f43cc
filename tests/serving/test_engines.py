"""A server decodes by the engine that its release carries, and by torch, counted and logged, where that is refused."""

import shutil
from pathlib import Path

import pytest

from nextpage.recommender import read_decoder
from nextpage.release import read_manifest
from tests.decoding.engines.engine_folders import add_engine
from tests.releases import write_release
from tests.serving.conftest import end
from tests.serving.test_release import start_release

HISTORY = {"items": ["i003", "i050", "i007"], "behaviours": ["ordered"] * 3, "times": [100, 200, 300]}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write_release(folder)
    add_engine(folder, read_decoder(folder), release=read_manifest(folder).hash)
    return folder


def test_a_fitting_engine_answers_as_torch_does_and_a_changed_one_leaves_torch_to_answer(
    release: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(release, changed)
    (graph,) = changed.glob("engines/*/step.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])
    slates = {}
    for folder, engine in ((release, "onnx"), (changed, "torch")):
        server = start_release(folder)
        slates[engine] = server.slate(history=HISTORY, as_of=400, k=8)["items"]
        assert server.metric(f'nextpage_engine_info{{engine="{engine}"}}') == 1
        if engine == "torch":
            assert server.metric('nextpage_engine_fallbacks_total{engine="onnx",reason="changed"}') == 1
        else:
            with pytest.raises(KeyError):
                server.metric('nextpage_engine_fallbacks_total{engine="onnx",reason="changed"}')
        said = end(server)
        assert ("torch decodes: step.onnx of engine onnx." in said) == (engine == "torch")
    assert [item["item_id"] for item in slates["onnx"]] == [item["item_id"] for item in slates["torch"]]
    scores = [[item["score"] for item in slates[engine]] for engine in ("onnx", "torch")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
