"""The page of a run holds what a manager asks for, loads nothing, and trusts no text from the data."""

import json
import math
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.align.step import as_json
from components.monitor.config import MonitorConfig
from components.monitor.step import monitor
from components.report.alignment import sentence, table
from components.report.artifacts import RunArtifacts, figure, seconds
from components.report.figures import _spread
from components.report.step import CONTENTS, write_report
from nextpage.alignment.config import AlignmentConfig
from nextpage.alignment.rewards import RewardsConfig
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.tokenizers.quality import LevelQuality, QualityReport
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.synthetic import write_dataset

HOSTILE = "<script src='https://evil.example/x.js'>alert(1)</script> & \"milk\""

# Hit rates of a real run's order, weakest first.
RANKERS = {
    "popularity": 0.29,
    "recent_popularity": 0.30,
    "cooccurrence": 0.36,
    "bigram_last_page": 0.37,
    "bigram_prompt": 0.44,
    "own_frequency": 0.55,
    "own_recency": 0.57,
    "own_recency_bigram": 0.58,
    "model": 0.54,
}


def ranker(level: float) -> dict[str, object]:
    """As evaluate writes one ranker."""
    values = {
        f"{metric}@{depth}": round(min(0.9, level * scale * (depth / 10) ** 0.3), 4)
        for metric, scale in (("HR", 1.0), ("Recall", 0.24), ("NDCG", 0.3), ("MRR", 0.5))
        for depth in (1, 5, 10, 50)
    }
    measured = {**values, "intervals": {name: [value - 0.012, value + 0.012] for name, value in values.items()}}
    return {
        **measured,
        "requests": 3_214,
        "new_items": {**measured, "requests": 2_950},
        "beyond_accuracy": {"coverage@10": 0.31, "gini@10": 0.87, "popularity_bias@10": 0.06, "novelty@10": 11.2},
        "slices": [],
    }


def write_predictions(dataset: Dataset, path: Path) -> None:
    """For each page of the last week the two items that lead it, the odd item, and seven more."""
    chosen = (
        "SELECT request_id, user_id, timestamp AS time, item_id FROM log WHERE position < 2 AND behaviour = 'ordered'"
    )
    others = "SELECT DISTINCT request_id, user_id, time, unnest(range(8)) AS place FROM chosen"
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW log AS FROM '{dataset.interactions}' WHERE page = 15")
    connection.execute(f"CREATE VIEW chosen AS {chosen}")
    connection.execute(
        "COPY (SELECT *, row_number() OVER (PARTITION BY request_id) - 1 AS position, NULL::double AS score FROM ("
        "SELECT request_id, time, item_id FROM chosen UNION ALL "
        f"SELECT request_id, time, CASE place WHEN 0 THEN 'odd' ELSE 'i01' || (20 + place) END FROM ({others}))) "
        f"TO '{path}'"
    )


def aligned(reward: float = 0.05, recall: float = -0.04) -> dict[str, object]:
    """As align writes alignment.json of a model that was refused, with these changes in reward and recall."""
    base = {
        "reward@10": 0.2,
        **{f"{kind}Recall@{depth}": 0.1 + depth / 100 for kind in ("", "recommended ") for depth in (1, 5, 10, 50)},
        "hallucination_rate": 0.0125,
        "coverage@10": 0.25,
        "popularity_bias@10": 0.06,
    }
    difference = {"reward@10": reward, **dict.fromkeys((name for name in base if "Recall" in name), recall)}
    after = base | {name: base[name] + change for name, change in difference.items()} | {"hallucination_rate": 0.031}
    return {
        "verdict": {"gate": "alignment", "passed": False, "reasons": [f"Recall@10 of {HOSTILE} may be inferior"]},
        "base": base,
        "aligned": after,
        "differences": {
            name: {"mean": change, "low": change - 0.01, "high": change + 0.01} for name, change in difference.items()
        },
        "reward_model": {"auc": 0.843, "user_auc": None, "calibration_error": 0.013, "bins": [{"observed": 0.1}] * 10},
        "objective": "policy",
        "trained": True,
        "course": [{"step": 0, **base}, {"step": 20, **base}, {"step": 40, **after}],
        "recipe": {
            "reward_model": {"minimum_auc": 0.75},
            "rewards": asdict(RewardsConfig(terms={"preference": 1.0, "diversity": 0.2})),
            "alignment": asdict(AlignmentConfig()),
        },
    }


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> RunArtifacts:
    """What a run leaves, in the shapes of the steps that write it."""
    tmp_path = tmp_path_factory.mktemp("run")
    dataset = write_dataset(tmp_path / "dataset", users=200)
    table = pq.read_table(dataset.items)
    odd = pa.table({"item_id": ["odd"], "text": [HOSTILE], "category": [HOSTILE], "brand": ["none"]})
    pq.write_table(pa.concat_tables([table, odd]), dataset.items)
    items = duckdb.sql(f"SELECT item_id, text FROM '{dataset.items}' ORDER BY 1").df()
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 16, size=(len(items), 3)) ** 2 // 15
    SemanticIds.sorted(items["item_id"].to_numpy(), codes, (16, 16, 16)).write(tokenizer / "semantic_ids.parquet")
    level = LevelQuality(size=16, used=15, attainable=16, entropy=3.5, perplexity=11.3, error=0.42)
    quality = asdict(
        QualityReport(
            items=201,
            levels=(level, level, level),
            colliding_before=0.021,
            colliding_after=0.0,
            recoded=0.011,
            moved=0,
            neighbour=0.61,
            neighbour_chance=0.07,
            category=None,
            category_chance=None,
        )
    )
    (tokenizer / "quality.json").write_text(json.dumps(quality))
    lines = [
        {
            "step": step,
            "loss": 5.5 * math.exp(-step / 250) + 3.1 + 0.08 * float(draw.normal()),
            "tokens_per_second": 9_000 + 300 * float(draw.normal()),
            "mfu": 0.31,
            "learning_rate": 1e-3 * (1 - step / 1200),
            "seconds": 2.4,
        }
        for step in range(10, 1201, 10)
    ]
    (tmp_path / "training.jsonl").write_text("\n".join(map(json.dumps, lines)))
    baselines = {name: ranker(level) for name, level in RANKERS.items() if name != "model"}
    differences = {
        name: {"HR@10": {"mean": 0.54 - level, "low": 0.53 - level, "high": 0.55 - level}}
        for name, level in RANKERS.items()
        if name != "model"
    }
    metrics = {
        "model": ranker(RANKERS["model"]),
        "baselines": baselines,
        "differences": {"model": differences},
        "hallucination_rate": 0.0021,
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "card.md").write_text(f"# Model card\n\nFor grocers. {HOSTILE}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    write_predictions(dataset, tmp_path / "predictions.parquet")
    quarantine = tmp_path / "quarantine"
    pq.write_table(pa.table({"reason": ["time in the future", "time in the future", "unknown item"]}), quarantine)
    outcome = aligned()
    (tmp_path / "alignment_outcome.json").write_text(as_json(outcome))
    refused = Verdict(gate="alignment", passed=False, reasons=tuple(outcome["verdict"]["reasons"]))
    verdicts = [
        Verdict(gate="data", passed=True, reasons=("5,700 rows, 3 in quarantine",)),
        refused,
        Verdict(gate="recall", passed=False, reasons=(f"HR@10 of {HOSTILE} is not above 0",)),
    ]
    for verdict in verdicts:
        verdict.write(tmp_path / f"{verdict.gate}.json")
    monitor(
        dataset.folder, tokenizer / "semantic_ids.parquet", tmp_path / "d.html", tmp_path / "d.json", MonitorConfig()
    )
    steps = (
        "ingest",
        "validate",
        "features",
        "tokenize",
        "train",
        "align",
        "evaluate",
        "release",
        "optimise",
        "monitor",
    )
    return RunArtifacts(
        name="demo",
        clean=dataset.folder,
        quarantine=quarantine,
        tokenizer=tokenizer,
        training_log=tmp_path / "training.jsonl",
        metrics=tmp_path / "metrics.json",
        model_card=tmp_path / "card.md",
        predictions=tmp_path / "predictions.parquet",
        verdicts=tuple(tmp_path / f"{verdict.gate}.json" for verdict in verdicts),
        costs={step: {"seconds": 3.0 * 2**place, "peak_memory_mb": 400.0} for place, step in enumerate(steps)},
        release_hash="sha256:0123abcd",
        drift=tmp_path / "d.json",
        alignment=tmp_path / "alignment_outcome.json",
    )


class Tags(HTMLParser):
    """Tags in order, attributes that could load something, and which tags were left open."""

    VOID = ("meta", "link", "br", "img", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(artifacts: RunArtifacts, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "runs" / "demo" / "report.html"
    write_report(path, artifacts)
    return path.read_text()


def test_every_section_is_there_with_its_plot(page: str) -> None:
    for name, title in CONTENTS:
        assert f'<section id="{name}">' in page, title
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.names.count("svg") == 5


def test_the_page_says_what_the_artifacts_say(page: str) -> None:
    said = [
        "in 54% of cases, behind the strongest simple count at 58%",
        "−4.0 points",
        "own recency + bigram over 128 items",
        "0.528–0.552",  # the interval of HR@10
        "1 of 3 gates failed (recall)",
        "unknown item",
        "recoded to be one of a kind",
        "perplexity",
        "Tokens a second, median",
        "2 of 10 came true",
        "nextpage serve release",
        "sha256:0123abcd",
    ]
    for words in said:
        assert words in page, words


def test_nothing_is_loaded_and_nothing_runs(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert {"script", "link", "img", "iframe", "object", "embed"}.isdisjoint(tags.names)
    assert all(address.startswith("#") for address in tags.loads)
    assert not re.search(r"@import|url\((?!#)", page)
    assert not re.search(r"//(?!127\.0\.0\.1|evil\.example)", page.split("</style>")[1].replace("&#39;", ""))


def test_text_from_the_data_is_escaped_wherever_it_shows(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script") >= 4  # a verdict, the card, and an item in each sample


def test_a_run_without_a_monitor_has_its_page(artifacts: RunArtifacts, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", replace(artifacts, drift=None, predictions=None, alignment=None))
    page = (tmp_path / "report.html").read_text()
    assert "This run did not compare windows of time." in page
    assert "This run did not ask the release for recommendations." in page
    assert "This run did not align its model." in page
    assert page.count("<svg") == 3


def test_a_base_that_goes_on_is_news_and_no_failed_gate(page: str) -> None:
    assert '<span class="mark news">base goes on</span>' in page
    assert "1 of 3 gates failed (recall)." in page
    assert "The model is its base: no aligned one took its place" in page


def test_the_alignment_says_what_was_seen_bounded_and_rewarded(page: str) -> None:
    section = page.split('<section id="alignment">')[1].split("</section>")[0]
    for words in (
        "The reward rises while recall falls (Recall@10 and Recall@50)",
        "reward +25.0%",  # at the end of its line
        "Recall@10 −20.0%",
        "3.10% name no item",
        "+0.0400 to +0.0600",  # the interval of the reward
        "above −0.0100",  # what the gate asks of recall
        "80% of it stays",
        "AUC on held-out pages</dt><dd>0.843",
        "AUC that alignment asks",
        "reward: diversity",
        "× 0.200",
        "rollouts a prompt (G)",
    ):
        assert words in section, words


@pytest.mark.parametrize(
    ("reward", "recall", "words"),
    [
        (0.05, -0.04, "The reward rises while recall falls (Recall@10 and Recall@50): the model learns to please"),
        (0.05, 0.04, "The reward rises; recall rises (Recall@10 and Recall@50)."),
        (0.05, -0.009, "The reward rises; recall does not move by more than chance."),
        (0.009, 0.0, "The reward does not move by more than chance; recall does not"),
        (-0.05, -0.04, "The reward falls; recall falls (Recall@10 and Recall@50)."),
    ],
)
def test_what_is_said_of_an_alignment_follows_its_intervals(reward: float, recall: float, words: str) -> None:
    said = sentence(aligned(reward, recall))
    assert said.startswith(words)
    assert said.endswith("3.10% of freely generated codes name no item, 1.25% before.")


def test_only_differences_clear_of_zero_are_marked_as_moved() -> None:
    rows = {row["title"]: row for row in table(aligned(reward=0.05, recall=-0.009))}
    assert rows["Reward of the first ten, mean"]["moved"]
    assert not rows["Recall@10"]["moved"]
    assert (rows["Recall@10"]["difference"], rows["Recall@10"]["interval"]) == ("−0.0090", "−0.0190 to +0.0010")
    assert rows["Catalogue that is recommended to anyone"]["interval"] == ""


def test_a_missing_artifact_is_an_error_and_no_empty_page(artifacts: RunArtifacts, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lost\.json"):
        write_report(tmp_path / "report.html", replace(artifacts, metrics=tmp_path / "lost.json"))
    assert not (tmp_path / "report.html").exists()


def test_an_empty_training_log_is_refused(artifacts: RunArtifacts, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(ValueError, match="did training take a step"):
        write_report(tmp_path / "report.html", replace(artifacts, training_log=tmp_path / "log.jsonl"))


def test_labels_keep_their_distance_and_their_order() -> None:
    places = [0.5, 0.501, 0.1, 0.502, 0.499]
    spread = _spread(places, gap=0.05)
    assert np.diff(np.sort(spread)).min() >= 0.05 - 1e-6
    assert np.argsort(spread).tolist() == np.argsort(places).tolist()


@pytest.mark.parametrize(
    ("value", "words"), [(1234.0, "1,234"), (0.0871, "0.087"), (12.34, "12.3"), (1.2e-6, "1.2e-06"), (True, "yes")]
)
def test_figures_are_written_as_a_person_would(value: float, words: str) -> None:
    assert figure(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(3.04, "3.0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_written_as_a_person_would(value: float, words: str) -> None:
    assert seconds(value) == words
