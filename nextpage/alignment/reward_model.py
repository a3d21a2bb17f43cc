"""How much a user would want an item: target attention over what two searches find in the long history.

After the search-based interest model (SIM, arXiv 2006.05639) with the attention of DIN (arXiv 1706.06978), whose
weights are not normalised, so that many like events weigh more than one. What is learnt is the expected label of an
item on the user's next page: with labels of 1 and 0, the probability that it is there.

Letters in names and comments: R prompts, N events, G candidates, D width, I items.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextpage.alignment.reward_examples import ExamplesConfig, Histories, RewardBatch, histories_at, padded
from nextpage.alignment.reward_items import WEEK, RewardItems
from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences
from nextpage.objectives.objective import Objective
from nextpage.recipes.recipe import Recipe
from nextpage.training.config import LoopConfig

EXPOSED = BEHAVIOURS.index("exposed")
PRIOR = -5.0
"""Log-odds at the start: few items are on a page."""
SCORED_AT_ONCE = 64
"""Prompts: bounds memory near 100 MB."""


@dataclass(frozen=True, kw_only=True)
class RewardModelConfig:
    """The reward model, and how it learns: from `batch_pages` pages a step.

    RL may not start where the AUC on held-out pages is under `minimum_auc`.
    """

    events: int = 512  # the last of a history, of any behaviour, that are searched
    soft_events: int = 64  # of them, those that the soft search finds
    recent_weeks: int = 4  # in which an item is popular lately
    width: int = 64
    mlp_width: int = 128
    buckets: int = 18  # of ages in days and in pages, two for each doubling
    minimum_auc: float = 0.75
    batch_pages: int = 64
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=300, learning_rate=6e-3, warmup=0.02, weight_decay=0.01)
    )

    def __post_init__(self) -> None:
        for name in ("events", "soft_events", "recent_weeks", "width", "mlp_width", "buckets", "batch_pages"):
            if getattr(self, name) < 1:
                raise ValueError(f"reward model: {name} is {getattr(self, name)}, it must be at least 1")
        if not 0.5 <= self.minimum_auc < 1:
            raise ValueError(f"reward model: minimum_auc is {self.minimum_auc}: use 0.5 (chance) up to below 1")


class RewardModel(nn.Module):
    """`forward` gives log-odds. An item is a vector of its own and, while learning, a projection of its frozen one."""

    vectors: Tensor | None  # float32 [I, V], frozen
    category: Tensor  # int64 [I]
    taken: Tensor  # int32 [W + 1, I], before the end of each week of training
    origin: Tensor  # int64 [], the start of the first

    def __init__(self, config: RewardModelConfig, items: int, weeks: int, vectors: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.width, config.mlp_width
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("category", torch.zeros(items, dtype=torch.int64))
        self.register_buffer("taken", torch.zeros(weeks + 1, items, dtype=torch.int32))
        self.register_buffer("origin", torch.zeros((), dtype=torch.int64))
        self.item = nn.Embedding(items, width)
        self.projection = None if vectors is None else nn.Linear(vectors.shape[1], width, bias=False)
        self.age, self.pages_ago = nn.Embedding(config.buckets, width), nn.Embedding(config.buckets, width)
        self.behaviour = nn.Embedding(len(BEHAVIOURS), width)
        for table, spread in ((self.item, 0.02), (self.age, 0.1), (self.pages_ago, 0.1), (self.behaviour, 0.1)):
            nn.init.normal_(table.weight, std=spread)
        self.query = nn.Linear(width, 2 * width)  # for the hard and for the soft search
        inputs = 5 * width + 2 + 2 * self._kinds + 2 + 4
        last = nn.Linear(hidden, 1)
        nn.init.constant_(last.bias, PRIOR)
        self.mlp = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)

    def forward(self, history: Histories, candidate: Tensor) -> Tensor:
        """Log-odds of `candidate` int64 [R, G] → float32 [R, G]; anything where it is −1."""
        there, item, wanted = history.item >= 0, history.item.clamp(min=0), candidate.clamp(min=0)
        event_RND, wanted_RGD = self._embed(item, wanted)
        age = self._bucket(history.days)
        when_RND = self.age(age) + self.pages_ago(self._bucket(history.pages))
        key_RND = event_RND + when_RND + self.behaviour(history.behaviour)
        same_category = hard_search(self.category[wanted], self.category[item], there)
        near = soft_search(wanted_RGD, event_RND, there, self.config.soft_events)
        hard_query, soft_query = (self.query(wanted_RGD) * self.config.width**-0.5).chunk(2, dim=-1)
        hard, hard_intensity = attend(hard_query, key_RND, same_category)
        soft, soft_intensity = attend(soft_query, key_RND, near)
        kind_RNK = self._kind(history, age)
        same_item = (candidate[:, :, None] == history.item[:, None, :]) & there[:, None, :]
        features = [
            *(torch.log1p(found.float() @ kind_RNK) for found in (same_item, same_category)),
            self._popularity(history.time, wanted),
            _habits(history, there)[:, None, :].expand(-1, candidate.shape[1], -1),
        ]
        interests = [wanted_RGD, hard, soft, wanted_RGD * hard, wanted_RGD * soft, hard_intensity, soft_intensity]
        joined = torch.cat([*interests, *(feature.to(key_RND.dtype) for feature in features)], dim=-1)
        logits: Tensor = self.mlp(joined).squeeze(-1).float()
        return logits

    def represent(self, rows: Tensor) -> Tensor:
        """Vectors of items int64 [U] → [U, D]."""
        vectors: Tensor = self.item(rows)
        if self.projection is not None:
            assert self.vectors is not None
            vectors = vectors + self.projection(self.vectors[rows].to(vectors.dtype))
        return vectors

    def _embed(self, item_RN: Tensor, wanted_RG: Tensor) -> tuple[Tensor, Tensor]:
        if self.projection is None:
            return self.item(item_RN), self.item(wanted_RG)
        rows, place = torch.unique(torch.cat([item_RN.flatten(), wanted_RG.flatten()]), return_inverse=True)
        table_UD = self.represent(rows)  # each item is projected once
        item, wanted = place.split([item_RN.numel(), wanted_RG.numel()])
        return F.embedding(item.view_as(item_RN), table_UD), F.embedding(wanted.view_as(wanted_RG), table_UD)

    def _popularity(self, time: Tensor, wanted: Tensor) -> Tensor:
        """How often everybody took the items, in all of training and in the weeks that ended by `time`: [R, G, 2]."""
        week = ((time - self.origin) // WEEK).clamp(0, len(self.taken) - 1)[:, None]
        recent = self.taken[week, wanted] - self.taken[(week - self.config.recent_weeks).clamp(min=0), wanted]
        return torch.stack([self.taken[-1, wanted], recent], dim=-1).float().log1p() / 4

    @property
    def _kinds(self) -> int:
        return self.config.buckets * (len(BEHAVIOURS) + 1) + 1

    def _kind(self, history: Histories, age: Tensor) -> Tensor:
        """Which kinds an event is of: its behaviour at its age; and if clicked or ordered, so many pages ago, and ever.

        float32 [R, N, kinds] of 0 and 1: the sum over events is a histogram.
        """
        buckets, chosen = self.config.buckets, (history.behaviour > EXPOSED).float()[..., None]
        kind = torch.zeros(*age.shape, self._kinds, device=age.device)
        kind.scatter_(2, (age + buckets * history.behaviour)[..., None], 1.0)
        place = self._bucket(history.pages) + buckets * len(BEHAVIOURS)
        kind.scatter_(2, place[..., None], chosen)
        kind[..., -1:] = chosen
        return kind

    def _bucket(self, age: Tensor) -> Tensor:
        """Ages in days or pages, by twice their logarithm to base 2: int64."""
        return (2 * torch.log2(1 + age.clamp(min=0))).long().clamp(max=self.config.buckets - 1)


def hard_search(wanted_RG: Tensor, event_RN: Tensor, there_RN: Tensor) -> Tensor:
    """The events of each candidate's category: bool [R, G, N]."""
    return (wanted_RG[:, :, None] == event_RN[:, None, :]) & there_RN[:, None, :]


@torch.no_grad()
def soft_search(wanted_RGD: Tensor, event_RND: Tensor, there_RN: Tensor, most: int) -> Tensor:
    """The `most` events with the largest inner products with each candidate, and their ties: bool [R, G, N]."""
    if event_RND.shape[1] <= most:
        return there_RN[:, None, :].expand(-1, wanted_RGD.shape[1], -1)
    product = (wanted_RGD @ event_RND.mT).masked_fill(~there_RN[:, None, :], -torch.inf)
    least = product.topk(most, dim=2).values[..., -1:]
    return (product >= least) & there_RN[:, None, :]


def attend(query_RGD: Tensor, key_RND: Tensor, found_RGN: Tensor) -> tuple[Tensor, Tensor]:
    """Target attention over what was found → the interest [R, G, D] and log(1 + its intensity) [R, G, 1].

    Weights are a sigmoid each, their sum is the intensity s. The sum of weighted events is scaled by log(1 + s) / s:
    it grows with intensity, and 500 events do not drown the other inputs.
    """
    weight = torch.sigmoid(query_RGD @ key_RND.mT) * found_RGN
    total = weight.sum(dim=2, keepdim=True)
    intensity = torch.log1p(total)
    return (weight @ key_RND) * (intensity / total.clamp(min=1e-6)), intensity


def _habits(history: Histories, there: Tensor) -> Tensor:
    """How much, how often and how lately the user did anything: logarithms, float32 [R, 4]."""
    events = there.sum(dim=1).float()
    pages = torch.where(there, history.pages, -1).amax(dim=1).float() + 1
    days = torch.where(there, history.days, torch.inf).amin(dim=1).clamp(max=400)
    return torch.stack([events, pages, days, events / pages.clamp(min=1)], dim=1).log1p() / 4


class RewardObjective(Objective):
    """Cross-entropy of labels. How often a candidate was to be drawn shifts its log-odds in the batch, and not what the
    model learns: how likely an item is on a page (the logQ correction of Yi et al., RecSys 2019, for one class)."""

    model: RewardModel

    def __init__(self, model: RewardModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: RewardBatch) -> tuple[Tensor, Tensor]:
        there = batch.candidate >= 0
        logits = self.model(batch.history, batch.candidate) - batch.expected.log()
        losses = F.binary_cross_entropy_with_logits(logits[there], batch.label[there], reduction="none")
        return losses, torch.ones_like(losses)

    def flops(self, batch: RewardBatch) -> float:
        """Of two searches, two attentions, histograms and MLP."""
        config, events = self.model.config, batch.history.item.shape[1]
        matrices = [weight.numel() for weight in (*self.model.mlp.parameters(), *self.model.query.parameters())]
        searched = events * (5 * config.width + 2 * self.model._kinds)
        return 2.0 * len(batch) * (searched + sum(matrices))


def make_reward_model(config: RewardModelConfig, items: RewardItems) -> RewardModel:
    """A fresh model over a catalogue; weights by torch's random state."""
    model = RewardModel(config, len(items.category), len(items.taken) - 1, torch.from_numpy(items.vectors))
    model.category.copy_(torch.from_numpy(items.category))
    model.taken.copy_(torch.from_numpy(items.taken))
    model.origin.fill_(items.origin)
    return model


@torch.inference_mode()
def score(model: RewardModel, histories: Sequences, items: np.ndarray) -> np.ndarray:
    """r_pref of items int [S, G] for S histories, as of `as_of`: float32 [S, G] in [0, 1], 0 where the item is −1."""
    rewards = np.zeros(items.shape, dtype=np.float32)
    for start in range(0, len(histories), SCORED_AT_ONCE):
        rows = np.arange(start, min(start + SCORED_AT_ONCE, len(histories)))
        some = histories.take(rows)
        place = padded(some.offset[:-1], some.offset[1:], model.config.events)
        candidate = torch.from_numpy(items[rows].astype(np.int64))
        device = model.category.device
        history, candidate = histories_at(some, place, some.as_of).to(device), candidate.to(device)
        logits = model(history, candidate)
        rewards[rows] = torch.where(candidate >= 0, logits.sigmoid(), 0.0).cpu().numpy()
    return rewards


def write(model: RewardModel, folder: Path) -> None:
    """`reward_model.json` and `reward_model.safetensors`: all that scoring needs. Items become one vector each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reward_model.json").write_text(json.dumps(asdict(model.config), indent=1))
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith("projection.")}
    with torch.inference_mode():
        weights["item.weight"] = model.represent(torch.arange(len(model.category), device=model.category.device))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / "reward_model.safetensors")


def read(folder: Path) -> RewardModel:
    """A model that `write` wrote, on the CPU."""
    settings = json.loads((folder / "reward_model.json").read_text())
    config = Recipe(name=str(folder), sections={"reward_model": settings}).part("reward_model", RewardModelConfig)
    weights = load_file(folder / "reward_model.safetensors")
    model = RewardModel(config, len(weights["category"]), len(weights["taken"]) - 1)
    model.load_state_dict(weights)
    return model.eval()
