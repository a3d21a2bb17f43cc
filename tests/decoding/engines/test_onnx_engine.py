"""Engines on ONNX Runtime against the eager one, and against a full forward pass without caches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.decoding.beam_search import generate, score_items, search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.engines.onnx_engine import OnnxEngine, build
from nextpage.decoding.engines.onnx_graphs import PREFILL, STEP, export
from nextpage.decoding.engines.parity import deviation
from nextpage.decoding.trie import Trie
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.engines.test_eager import all_codes, full_log_prob
from tests.decoding.small import catalogues, decoder, filters, only, random_prompts, semantic_ids

SIZES = (5, 4, 3)


def engine_of(model: CausalDecoder, folder: Path, precision: str = "fp32") -> OnnxEngine:
    build(model, folder, precision)
    return OnnxEngine(folder, threads=1)


@pytest.fixture(scope="module")
def model() -> CausalDecoder:
    return decoder(SIZES, layers=3, kv_heads=2)


@pytest.fixture(scope="module")
def engine(model: CausalDecoder, tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    return engine_of(model, tmp_path_factory.mktemp("fp32"))


@settings(max_examples=20, deadline=None)
@given(
    table=catalogues(),
    kv_heads=st.sampled_from([1, 2, 4]),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    beam_width=st.integers(1, 30),
    k=st.integers(1, 30),
    data=st.data(),
)
def test_a_search_finds_what_the_eager_engine_finds(
    tmp_path_factory: pytest.TempPathFactory,
    table: SemanticIds,
    kv_heads: int,
    lengths: list[int],
    beam_width: int,
    k: int,
    data: st.DataObject,
) -> None:
    seed, layers = data.draw(st.integers(0, 99)), data.draw(st.integers(1, 2))
    model, trie = decoder(table.sizes, layers=layers, kv_heads=kv_heads, seed=seed), Trie.build(table)
    eager, fast = EagerEngine(model), engine_of(model, tmp_path_factory.mktemp("drawn"))
    prompts = random_prompts(table.sizes, lengths, seed)
    asked = {"beam_width": beam_width, "k": k, "allowed": data.draw(st.none() | filters(len(lengths), trie.items))}
    found, expected = search(fast, prompts, trie, **asked), search(eager, prompts, trie, **asked)
    torch.testing.assert_close(found.log_prob, expected.log_prob, atol=1e-4, rtol=0)
    # Items of one score to rounding may change places: so each is held against its own score, and none comes twice.
    torch.testing.assert_close(score_items(eager, prompts, trie, found.rows), expected.log_prob, atol=1e-4, rtol=0)
    for rows in found.rows.tolist():
        items = [row for row in rows if row >= 0]
        assert len(set(items)) == len(items)


def test_every_code_has_the_probability_of_a_full_forward_pass(model: CausalDecoder, engine: OnnxEngine) -> None:
    prompts = random_prompts(SIZES, [6, 1, 0, 9])
    generated = generate(engine, prompts, beam_width=100)
    for index in range(4):
        codes = generated.codes[index].numpy()
        assert len(codes) == np.prod(SIZES)
        expected = full_log_prob(model, prompts, index, codes)
        assert generated.log_prob[index].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_model_that_does_not_merge_reads_plain_tokens_and_no_other(tmp_path: Path) -> None:
    merging = decoder(SIZES)
    model = CausalDecoder(replace(merging.config, token_merger=False))
    model.load_state_dict({name: w for name, w in merging.state_dict().items() if "merger" not in name})
    items = random_prompts(SIZES, [3, 0])
    plain, engine = Prompts(tokens=items.tokens.flatten(1), lengths=items.lengths * 3), engine_of(model, tmp_path)
    expected = generate(EagerEngine(model), plain, beam_width=60)
    torch.testing.assert_close(generate(engine, plain, beam_width=60).log_prob, expected.log_prob, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="prompts are whole items, and the graph reads plain tokens"):
        engine.prefill(items)


def test_one_level_needs_no_step(tmp_path: Path) -> None:
    model, prompts = decoder((4,)), random_prompts((4,), [2, 0])
    found = generate(engine_of(model, tmp_path), prompts, beam_width=4)
    assert not (tmp_path / STEP).exists()
    torch.testing.assert_close(found.log_prob, generate(EagerEngine(model), prompts, beam_width=4).log_prob)


def test_two_items_of_one_semantic_id_share_its_probability_and_one_item_is_all_there_is(engine: OnnxEngine) -> None:
    prompts = random_prompts(SIZES, [2])
    twice = Trie.build(semantic_ids([(0, 1, 2), (0, 1, 2)], SIZES))
    found = search(engine, prompts, twice, beam_width=5, k=3)
    assert found.rows.tolist() == [[0, 1, -1]]
    assert found.log_prob[0, 0] == found.log_prob[0, 1] > -torch.inf == found.log_prob[0, 2]
    none = search(engine, prompts, twice, beam_width=5, k=2, allowed=torch.zeros(2, dtype=torch.bool))
    assert none.rows.tolist() == [[-1, -1]]


def test_a_batch_of_different_lengths_finds_what_each_prompt_finds_alone(engine: OnnxEngine) -> None:
    trie = Trie.build(semantic_ids([tuple(codes) for codes in all_codes(SIZES)[::2].tolist()], SIZES))
    prompts = random_prompts(SIZES, [7, 0, 3, 12, 1])
    together = search(engine, prompts, trie, beam_width=4, k=6)
    for index in range(5):
        alone = search(engine, only(prompts, index), trie, beam_width=4, k=6)
        assert torch.equal(alone.rows[0], together.rows[index])
        torch.testing.assert_close(alone.log_prob[0], together.log_prob[index], atol=1e-5, rtol=0)


def test_a_step_leaves_its_state_unchanged_and_holds_the_prompt_once(engine: OnnxEngine) -> None:
    start = engine.prefill(random_prompts(SIZES, [4, 2]))
    parents, codes = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[0, 1, 2], [2, 3, 4]])
    step = engine.step(start.state, parents, codes, 1)
    further = engine.step(step.state, torch.tensor([[2, 2], [0, 1]]), torch.tensor([[0, 3], [1, 1]]), 2)
    again = engine.step(start.state, parents, codes, 1)
    assert torch.equal(step.logits, again.logits)
    for held in zip(start.state.prompt, step.state.prompt, further.state.prompt, strict=True):
        assert len({tensor.data_ptr() for tensor in held}) == 1


def test_int8_keeps_distributions_close_and_the_head_in_fp32(tmp_path: Path) -> None:
    model = decoder((40, 40, 40))
    exact, rounded = (engine_of(model, tmp_path / name, name) for name in ("fp32", "int8"))
    prompts = random_prompts((40, 40, 40), [8, 5])
    expected, found = (generate(engine, prompts, beam_width=60) for engine in (exact, rounded))
    difference = (found.log_prob - expected.log_prob).abs().max()
    assert 0 < difference < 0.5
    assert deviation(exact, EagerEngine(model)) < 1e-4 < deviation(rounded, EagerEngine(model)) < 0.5
    held = onnx.load(tmp_path / "int8" / STEP)
    kinds = {node.op_type for node in held.graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= kinds
    head = [node for node in held.graph.node if "head" in node.input]
    assert [node.op_type for node in head] == ["Transpose"]  # the head comes in as it is, in fp32


def test_an_unknown_precision_is_refused_by_its_name(model: CausalDecoder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no engine in 'int4' here: use fp32 or int8"):
        build(model, tmp_path, "int4")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_are_valid_and_hold_plain_operators_only(dtype: torch.dtype, tmp_path: Path) -> None:
    export(decoder(SIZES, kv_heads=2).to(dtype), tmp_path)
    for name in (PREFILL, STEP):
        onnx.checker.check_model(tmp_path / name, full_check=True)
        graph = onnx.load(tmp_path / name).graph
        assert {node.domain for node in graph.node} == {""}
        caches = [value for value in (*graph.input, *graph.output) if "_k." in value.name or "_v." in value.name]
        kind = onnx.TensorProto.FLOAT if dtype == torch.float32 else onnx.TensorProto.BFLOAT16
        assert {value.type.tensor_type.elem_type for value in caches} == {kind}
        (logits,) = (value for value in graph.output if value.name == "logits")
        assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
