"""A layout whose context is not merged: each code of an item is a token that stands by itself."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from nextpage.decoding.beam_search import score_items
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.trie import Trie
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.packed import IGNORED, Packed, visible
from nextpage.layouts.pages import PagesConfig, lay_out, prompt_events
from nextpage.objectives.next_token import next_token_loss, token_losses
from nextpage.recipes import parse_recipe
from nextpage.recommender import load_recommender, read_decoder, write_parts
from nextpage.release import FeatureService, seal
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import PAD
from tests.histories import DAY, SIZES, VOCABULARY, random_item_tokens, random_sequences, small_decoder

TOKENS = random_item_tokens()
UNMERGED = PagesConfig(page_wise=0.5, page_items=4, exposed_items=2, merged=False)
RECIPE = """name: unmerged
layout: {merged: false, page_items: 4}
model: {width: 16, layers: 1, heads: 2, kv_heads: 1, head_width: 8, mlp_width: 16}
training: {steps: 2, batch_tokens: 400}
decoding: {beam_width: 90, prompt_items: 20, bf16: false}
"""


def _lay_out(sequences: Sequences, config: PagesConfig = UNMERGED) -> Packed:
    draws = [np.random.default_rng(int(user[1:])) for user in sequences.user_id]
    return lay_out(sequences, TOKENS, config, draws)


def test_the_context_is_the_codes_of_its_items_one_after_another() -> None:
    sequences = random_sequences(4)
    packed, read = _lay_out(sequences), prompt_events(sequences, UNMERGED)
    for row, (start, middle, _) in enumerate(packed.spans):
        assert packed.is_context[start:middle].all()
        events = slice(read.offset[row], read.offset[row] + (middle - start) // 3)
        assert packed.tokens[start:middle, 0].tolist() == TOKENS[read.item[events]].reshape(-1).tolist()
        assert packed.time[start:middle].tolist() == read.time[events].repeat(3).tolist()
        assert packed.position[start:middle].tolist() == list(range(middle - start))
    assert (packed.tokens[:, 1:] == PAD).all()


def test_what_is_learnt_and_from_which_context_is_that_of_the_merged_layout() -> None:
    sequences = random_sequences(4)
    unmerged, merged = _lay_out(sequences), _lay_out(sequences, replace(UNMERGED, merged=True))
    learnt, same = unmerged.target != IGNORED, merged.target != IGNORED
    for column in ("target", "time", "weight", "sequence"):
        assert torch.equal(getattr(unmerged, column)[learnt], getattr(merged, column)[same])
    assert torch.equal(unmerged.tokens[learnt, 0], merged.tokens[same, 0])
    place_in_branch = _place_in_branch(merged, same)
    assert torch.equal(_place_in_branch(unmerged, learnt), place_in_branch)
    seen = merged.position[same] - place_in_branch
    assert torch.equal(unmerged.position[learnt] - place_in_branch, 3 * seen)


def _place_in_branch(packed: Packed, learnt: torch.Tensor) -> torch.Tensor:
    """How many tokens of its own branch stand before each token with something to learn."""
    key = torch.stack([packed.sequence[learnt], packed.block[learnt]], dim=1)
    position = packed.position[learnt]
    before = (key[:, None] == key[None]).all(dim=-1) & (position[None] < position[:, None])
    return before.sum(dim=1)


def test_codes_of_the_context_see_what_their_items_see_when_merged_and_the_codes_before_them() -> None:
    sequences = random_sequences(2)
    tied = replace(sequences, time=sequences.time - (sequences.page % 2) * 3 * DAY)  # pages in pairs of one moment
    unmerged, merged = _lay_out(tied), _lay_out(tied, replace(UNMERGED, merged=True))
    codes, items = unmerged.is_context.nonzero()[:, 0], merged.is_context.nonzero()[:, 0]
    of_codes = visible(unmerged, codes, codes).view(len(items), 3, len(items), 3)
    of_items = visible(merged, items, items)
    for code in range(3):
        for before in range(3):
            expected = of_items if before <= code else of_items & ~torch.eye(len(items), dtype=torch.bool)
            assert torch.equal(of_codes[:, code, :, before], expected)


def test_the_packed_loss_is_that_of_separate_examples() -> None:
    sequences, model = random_sequences(5), small_decoder(token_merger=False)
    together = float(next_token_loss(model, _lay_out(sequences)).detach())
    sums, weights = 0.0, 0.0
    for row in range(len(sequences)):
        losses, weight = token_losses(model, _lay_out(sequences.take(np.array([row]))))
        sums, weights = sums + float((losses * weight).sum().detach()), weights + float(weight.sum())
    assert together == pytest.approx(sums / weights, abs=1e-5)


@torch.no_grad()
def test_what_comes_later_and_what_others_did_change_no_loss() -> None:
    """Every event of other users, and every event from a moment on, becomes another item: losses before it stay."""
    sequences, model = random_sequences(3), small_decoder(token_merger=False)
    owner = np.repeat(np.arange(3), np.diff(sequences.offset))
    packed = _lay_out(sequences)
    losses, _ = token_losses(model, packed)
    learnt = packed.target != IGNORED
    of_one, times = packed.sequence[learnt] == 1, packed.time[learnt]
    for moment in times[of_one].unique().tolist():
        changed = (owner != 1) | (sequences.time >= moment)
        other = replace(sequences, item=np.where(changed, (sequences.item + 7) % 90, sequences.item))
        again, _ = token_losses(model, _lay_out(other))
        before = of_one & (times < moment)
        assert torch.allclose(again[before], losses[before], atol=1e-6)
        if before.any():  # what came earlier does matter
            earlier = replace(sequences, item=np.where(changed, sequences.item, (sequences.item + 7) % 90))
            later = of_one & (times >= moment)
            assert not torch.allclose(token_losses(model, _lay_out(earlier))[0][later], losses[later], atol=1e-3)


def test_a_merged_context_is_refused_by_a_model_without_a_merger() -> None:
    model, sequences = small_decoder(token_merger=False), random_sequences(2)
    merged = replace(UNMERGED, merged=True)
    with pytest.raises(ValueError, match="no token merger: was it made for a layout that does not merge"):
        next_token_loss(model, _lay_out(sequences, merged))
    with pytest.raises(ValueError, match="no token merger: was it made for a layout that does not merge"):
        EagerEngine(model).prefill(prompts_of(sequences, TOKENS, merged, items=10))


@pytest.fixture(scope="module")
def semantic_ids() -> SemanticIds:
    names = np.array([f"i{row:02d}" for row in range(90)], dtype=object)
    return SemanticIds.sorted(names, VOCABULARY.codes(TOKENS), SIZES)


@pytest.fixture(scope="module")
def model(semantic_ids: SemanticIds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m nextpage.training` leaves for a recipe that does not merge."""
    folder = tmp_path_factory.mktemp("unmerged")
    (folder / "recipe.yaml").write_text(RECIPE)
    semantic_ids.write(folder / "semantic_ids.parquet")
    pq.write_table(_table(random_sequences(12), semantic_ids), folder / "training.parquet")
    command = [sys.executable, "-m", "nextpage.training", f"--recipe={folder / 'recipe.yaml'}"]
    command += [f"--histories={folder / 'training.parquet'}", f"--semantic-ids={folder / 'semantic_ids.parquet'}"]
    subprocess.run([*command, f"--output={folder / 'model'}"], check=True)
    return folder / "model"


def _table(sequences: Sequences, semantic_ids: SemanticIds) -> pa.Table:
    """As the feature store writes it."""
    values = {"item": semantic_ids.item_ids[sequences.item]}
    values |= {name: getattr(sequences, name).astype(np.int64) for name in ("behaviour", "page", "time")}
    moments = {name: pa.array(getattr(sequences, name) * 10**6) for name in ("as_of", "target_from")}
    return pa.table(
        {
            "user_id": pa.array(sequences.user_id, pa.string()),
            **{name: moment.cast(pa.timestamp("us", tz="UTC")) for name, moment in moments.items()},
            **{
                f"history_{name}": pa.ListArray.from_arrays(pa.array(sequences.offset, pa.int32()), pa.array(column))
                for name, column in values.items()
            },
        }
    )


def test_training_makes_a_model_without_merger_weights(model: Path) -> None:
    assert not [name for name in load_file(model / "weights.safetensors") if "merger" in name]
    decoder = read_decoder(model)
    assert decoder.merger is None
    assert not decoder.config.token_merger


def test_a_release_that_does_not_merge_is_read_again_and_ranks_by_its_plain_prompts(
    model: Path, semantic_ids: SemanticIds, tmp_path: Path
) -> None:
    decoder, recipe = read_decoder(model), parse_recipe(RECIPE)
    items = pa.table({"item_id": pa.array(semantic_ids.item_ids, pa.string()), "orders": np.arange(90)})
    write_parts(tmp_path, decoder=decoder, semantic_ids=semantic_ids, items=items, recipe=recipe)
    seal(tmp_path, name="unmerged", recipe="unmerged", feature_service=FeatureService(name="s", hash="h"))
    histories = random_sequences(4, seed=1)
    ranked = load_recommender(tmp_path).rankings(histories, 90).model
    layout, tokens = recipe.part("layout", PagesConfig), VOCABULARY.tokens(semantic_ids.codes)
    prompts = prompts_of(histories, tokens, layout, items=20)
    assert prompts.tokens.ndim == 2
    rows = torch.arange(90).expand(4, -1)
    scores = score_items(EagerEngine(decoder), prompts, Trie.build(semantic_ids), rows)
    for row, (order, score) in enumerate(zip(ranked, scores, strict=True)):
        assert sorted(order.tolist()) == list(range(90))
        assert score[order].tolist() == pytest.approx(sorted(score.tolist(), reverse=True), abs=1e-5), row
