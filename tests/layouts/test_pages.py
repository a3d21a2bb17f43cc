"""What a layout may and may not let a token see, and that packing changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nextpage.interactions.sequences import Sequences
from nextpage.layouts.packed import IGNORED, Packed, visible
from nextpage.layouts.pages import PagesConfig, lay_out
from nextpage.models.attention import branch_attention
from nextpage.objectives.next_token import embed_packed, next_token_loss, token_losses
from nextpage.tokenizers.vocabulary import SEP
from tests.histories import DAY, VOCABULARY, random_item_tokens, random_sequences, small_decoder

TOKENS = random_item_tokens()
MIXED = PagesConfig(page_wise=0.5, page_items=4, exposed_items=2)


def _lay_out(sequences: Sequences, config: PagesConfig = MIXED, seed: int = 0) -> Packed:
    draws = [np.random.default_rng((seed, int(user[1:]))) for user in sequences.user_id]
    return lay_out(sequences, TOKENS, config, draws)


def _targets_by_time(packed: Packed, sequence: int) -> dict[int, list[tuple[int, ...]]]:
    """The items that a sequence learns, page by page."""
    learnt = (packed.target != IGNORED) & (packed.sequence == sequence)
    codes = packed.target[learnt].view(-1, 3).tolist()
    pages: dict[int, list[tuple[int, ...]]] = {}
    for time, item in zip(packed.time[learnt].view(-1, 3)[:, 0].tolist(), codes, strict=True):
        pages.setdefault(time, []).append(tuple(item))
    return pages


@pytest.mark.parametrize("page_wise", [0.0, 0.5, 1.0])
def test_every_ordered_and_clicked_item_of_a_page_to_learn_is_learnt_once(page_wise: float) -> None:
    sequences = random_sequences(6)
    packed = _lay_out(sequences, replace(MIXED, page_wise=page_wise, exposed_items=0))
    for row in range(len(sequences)):
        events = slice(sequences.offset[row], sequences.offset[row + 1])
        expected: dict[int, list[tuple[int, ...]]] = {}
        for item, behaviour, time in zip(
            sequences.item[events], sequences.behaviour[events], sequences.time[events], strict=True
        ):
            if time >= sequences.target_from[row] and behaviour > 0:
                expected.setdefault(int(time), []).append(tuple(TOKENS[item].tolist()))
        found = _targets_by_time(packed, row)
        assert {time: sorted(items) for time, items in found.items()} == {
            time: sorted(items) for time, items in expected.items()
        }


def test_exposed_items_are_learnt_up_to_their_bound() -> None:
    sequences = random_sequences(6)
    for bound in (0, 1, 100):
        packed = _lay_out(sequences, replace(MIXED, exposed_items=bound))
        learnt = int((packed.target != IGNORED).sum()) // 3
        owner = np.repeat(np.arange(len(sequences)), np.diff(sequences.offset))
        to_learn = sequences.time >= sequences.target_from[owner]
        key = owner * 1000 + sequences.page
        exposed = np.bincount(key[to_learn & (sequences.behaviour == 0)])
        assert learnt == int((to_learn & (sequences.behaviour > 0)).sum()) + int(np.minimum(exposed, bound).sum())


def test_a_page_wise_branch_goes_from_strong_to_weak_and_follows_on_from_its_last_code() -> None:
    sequences = random_sequences(6)
    packed = _lay_out(sequences, PagesConfig(page_wise=1.0, page_items=50, exposed_items=50))
    behaviour_of = {
        (int(time), tuple(TOKENS[item].tolist())): int(behaviour)
        for item, behaviour, time in zip(sequences.item, sequences.behaviour, sequences.time, strict=True)
    }
    branches = 0
    for block in packed.block[packed.target != IGNORED].unique():
        for sequence in range(len(sequences)):
            inside = (packed.block == block) & (packed.sequence == sequence) & (packed.target != IGNORED)
            if not inside.any():
                continue
            branches += 1
            tokens, targets = packed.tokens[inside, 0].tolist(), packed.target[inside].tolist()
            assert tokens == [SEP, *targets[:-1]]
            time = int(packed.time[inside][0])
            strength = [behaviour_of[time, tuple(targets[at : at + 3])] for at in range(0, len(targets), 3)]
            assert strength == sorted(strength, reverse=True)
    assert branches == 6 * 4


def test_the_mask_shows_context_before_its_time_and_the_own_branch_and_nothing_else() -> None:
    packed = _lay_out(random_sequences(3))
    seen = visible(packed, slice(None), slice(None))
    for i in range(len(packed)):
        for j in range(len(packed)):
            same = packed.sequence[i] == packed.sequence[j]
            earlier = packed.is_context[j] and packed.time[j] < packed.time[i]
            own = packed.block[i] == packed.block[j] and packed.position[j] <= packed.position[i]
            assert bool(seen[i, j]) == bool(same and (earlier or own))
    assert seen.diagonal().all()  # no softmax over nothing


def test_no_token_is_changed_by_the_future_by_another_branch_or_by_another_user() -> None:
    """Perturb one token and look at which hidden states move: exactly those that may see it."""
    packed, decoder = _lay_out(random_sequences(3)), small_decoder()
    seen = visible(packed, slice(None), slice(None))
    with torch.no_grad():
        x = embed_packed(decoder, packed)
        before = decoder(x, packed.position, branch_attention(packed))
        for perturbed in range(0, len(packed), 7):
            changed = x.clone()
            changed[perturbed] += 1.0
            after = decoder(changed, packed.position, branch_attention(packed))
            moved = (after - before).abs().amax(dim=1) > 1e-6
            # Two layers: what sees a token that sees it may move too, and nothing else.
            reached = seen.float() @ seen.float()[:, perturbed] > 0
            assert not (moved & ~reached).any()
            assert (moved & seen[:, perturbed]).sum() == seen[:, perturbed].sum()


def test_a_page_at_the_same_second_is_no_context() -> None:
    sequences = random_sequences(2)
    tied = replace(sequences, time=sequences.time - (sequences.page % 2) * 3 * DAY)  # pages in pairs of one moment
    packed = _lay_out(tied)
    seen = visible(packed, slice(None), slice(None))
    targets = (packed.target != IGNORED).nonzero()[:, 0]
    for i in targets:
        assert (packed.time[seen[i] & packed.is_context] < packed.time[i]).all()


def test_the_packed_loss_is_that_of_separate_examples() -> None:
    sequences, decoder = random_sequences(5), small_decoder()
    together = float(next_token_loss(decoder, _lay_out(sequences)).detach())
    sums, weights = 0.0, 0.0
    for row in range(len(sequences)):
        losses, weight = token_losses(decoder, _lay_out(sequences.take(np.array([row]))))
        sums, weights = sums + float((losses * weight).sum().detach()), weights + float(weight.sum())
    assert abs(together - sums / weights) < 1e-5


def test_one_pass_over_a_user_gives_each_page_the_loss_it_has_alone() -> None:
    """A history encoded once with all pages as branches, against one example a page with its own prompt."""
    sequences, decoder = random_sequences(1, pages=6), small_decoder()
    config = PagesConfig(page_wise=0.0)
    whole = _lay_out(sequences, config)
    losses, _ = token_losses(decoder, whole)
    times = whole.time[whole.target != IGNORED]
    for time in times.unique():
        alone = replace(sequences, target_from=np.array([int(time)])).select(sequences.time <= int(time))
        page_losses, _ = token_losses(decoder, _lay_out(alone, config))
        assert torch.allclose(losses[times == time].sum(), page_losses.sum(), atol=1e-4)


def test_padding_stays_under_five_per_cent_of_realistic_histories() -> None:
    sequences = random_sequences(20, pages=40)
    assert _lay_out(sequences, PagesConfig()).padding < 0.05


def test_a_history_is_laid_out_the_same_whatever_stands_beside_it() -> None:
    sequences = random_sequences(4)
    together, alone = _lay_out(sequences), _lay_out(sequences.take(np.array([2])))
    of_two = together.sequence == 2
    assert torch.equal(together.tokens[of_two], alone.tokens)
    assert torch.equal(together.target[of_two], alone.target)


def test_a_share_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"page_wise is 1\.5.*from 0 to 1"):
        PagesConfig(page_wise=1.5)


def test_all_tokens_are_of_the_vocabulary() -> None:
    packed = _lay_out(random_sequences(3))
    assert packed.tokens.min() >= 0
    assert packed.tokens.max() < VOCABULARY.size
