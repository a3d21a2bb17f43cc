"""An engine answers where its key fits release and machine; else the next one does, and it is told why."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nextpage.decoding.engines.choice import Chosen, choose_engine
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.engines.engine_folder import KEY, EngineRefused, check_engine, read_key, seal_engine
from nextpage.decoding.engines.hardware import cpu_architecture
from nextpage.decoding.engines.onnx_engine import OnnxEngine
from nextpage.models.decoder import CausalDecoder
from tests.decoding.engines.engine_folders import RELEASE, add_engine
from tests.decoding.small import decoder

SIZES = (5, 4)


@pytest.fixture
def model() -> CausalDecoder:
    return decoder(SIZES)


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def chosen(asked: str, model: CausalDecoder, release: Path) -> Chosen:
    return choose_engine(asked, model, release, RELEASE, dtype=torch.bfloat16, threads=1)


def told(found: Chosen) -> list[tuple[str, str]]:
    return [(fallback.engine, fallback.reason) for fallback in found.fallbacks]


def test_without_engines_torch_answers_and_only_who_asked_for_another_is_told(
    model: CausalDecoder, tmp_path: Path
) -> None:
    for asked in ("auto", "torch"):
        found = chosen(asked, model, tmp_path)
        assert (found.name, found.fallbacks) == ("torch", ())
        assert isinstance(found.engine, EagerEngine)
        assert found.engine.decoder.embed_tokens.weight.dtype == torch.bfloat16
    found = chosen("onnx", model, tmp_path)
    assert (found.name, told(found)) == ("torch", [("onnx", "missing")])
    assert found.fallbacks[0].message == "the release carries no engine onnx: the step optimise builds it"


def test_auto_takes_the_fastest_that_beats_torch_and_a_name_takes_that_one(
    model: CausalDecoder, tmp_path: Path
) -> None:
    add_engine(tmp_path, model)
    assert chosen("auto", model, tmp_path).name == "onnx"
    add_engine(tmp_path, model, precision="int8", latency_ms={"1": 2.0})
    found = chosen("auto", model, tmp_path)
    assert (found.name, found.fallbacks) == ("onnx-int8", ())
    assert isinstance(found.engine, OnnxEngine)
    assert chosen("onnx", model, tmp_path).name == "onnx"
    assert chosen("torch", model, tmp_path).name == "torch"


def test_an_engine_that_was_slower_than_torch_is_taken_by_its_name_alone(model: CausalDecoder, tmp_path: Path) -> None:
    add_engine(tmp_path, model, latency_ms={"1": 11.0})
    found = chosen("auto", model, tmp_path)
    assert (found.name, found.fallbacks) == ("torch", ())
    assert chosen("onnx", model, tmp_path).name == "onnx"


@pytest.mark.parametrize(
    ("differs", "reason", "sentence"),
    [
        ({"release": "decade"}, "release", "was built from release decade, this one is c0ffee"),
        ({"architecture": "sparc-vis3"}, "architecture", "was built for sparc-vis3, this machine is"),
        ({"version": "0.1"}, "version", "was built with onnxruntime 0.1, here is"),
        ({"package": "onnx-walker"}, "library", "runs on onnx-walker, which is not installed"),
        ({"engine": "abacus"}, "unknown", "holds an engine 'abacus', which this version does not know"),
        ({"deviation": -1.0}, "parity", "away from the reference on the probe"),
    ],
)
def test_an_engine_whose_key_does_not_match_is_passed_over_with_what_differs(
    model: CausalDecoder, tmp_path: Path, differs: dict[str, Any], reason: str, sentence: str
) -> None:
    add_engine(tmp_path, model, **differs)
    found = chosen("auto", model, tmp_path)
    assert (found.name, [fallback.reason for fallback in found.fallbacks]) == ("torch", [reason])
    assert sentence in found.fallbacks[0].message


@pytest.mark.parametrize("name", ["step.onnx", "step.onnx.data", "heads.safetensors", "prefill.onnx"])
def test_a_changed_byte_of_any_file_is_refused_by_its_name(model: CausalDecoder, tmp_path: Path, name: str) -> None:
    folder = add_engine(tmp_path, model)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(EngineRefused, match=f"{name} of engine onnx.* is not the file that was built"):
        check_engine(folder, read_key(folder), RELEASE)
    assert told(chosen("onnx", model, tmp_path)) == [("onnx", "changed")]


def test_a_file_more_or_less_is_refused(model: CausalDecoder, tmp_path: Path) -> None:
    folder = add_engine(tmp_path, model)
    (folder / "more").write_text("")
    assert told(chosen("auto", model, tmp_path)) == [("onnx", "changed")]
    (folder / "more").unlink()
    (folder / "heads.safetensors").unlink()
    assert told(chosen("auto", model, tmp_path)) == [("onnx", "changed")]


def test_an_engine_of_other_weights_is_refused_though_its_files_are_as_built(
    model: CausalDecoder, tmp_path: Path
) -> None:
    add_engine(tmp_path, decoder(SIZES, seed=1))
    assert told(chosen("auto", model, tmp_path)) == [("onnx", "parity")]


@pytest.mark.parametrize("key", ["", "[]", '{"engine": "onnx"}', '{"latency_ms": {"1": 0.0}}'])
def test_a_key_that_cannot_be_read_is_passed_over(model: CausalDecoder, tmp_path: Path, key: str) -> None:
    path = add_engine(tmp_path, model) / KEY
    path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(key)) if "latency" in key else key)
    assert told(chosen("auto", model, tmp_path)) == [("onnx", "unreadable")]


def test_a_graph_that_does_not_load_is_passed_over(model: CausalDecoder, tmp_path: Path) -> None:
    folder = add_engine(tmp_path, model)
    (folder / "step.onnx").write_bytes(b"no graph")

    seal_engine(folder, read_key(folder))
    found = chosen("auto", model, tmp_path)
    assert (found.name, told(found)) == ("torch", [("onnx", "broken")])


def test_of_engines_for_several_machines_this_ones_answers_and_no_other_is_a_fallback(
    model: CausalDecoder, tmp_path: Path
) -> None:
    add_engine(tmp_path, model)
    add_engine(tmp_path, model, architecture="aarch64-i8mm", latency_ms={"1": 0.1})
    found = chosen("auto", model, tmp_path)
    assert (found.name, found.fallbacks) == ("onnx", ())


def test_cuda_without_a_gpu_is_passed_over(model: CausalDecoder, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        assert chosen("cuda", model, tmp_path).name == "cuda"
    else:
        assert told(chosen("cuda", model, tmp_path)) == [("cuda", "architecture")]


def test_another_word_is_an_error(model: CausalDecoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no engine 'fast': use auto, torch, onnx"):
        chosen("fast", model, tmp_path)


def test_a_key_holds_what_the_engine_is_for(model: CausalDecoder, tmp_path: Path) -> None:
    folder = add_engine(tmp_path, model)
    key = json.loads((folder / KEY).read_text())
    assert folder.name == f"onnx.{cpu_architecture()}"
    assert (key["release"], key["package"], key["precision"]) == (RELEASE, "onnxruntime", "fp32")
    assert set(key["files"]) == {path.name for path in folder.iterdir()} - {KEY}
    assert read_key(folder).speed == 2.0
