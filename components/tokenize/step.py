"""Learn the tokenizer from a clean dataset and write it with its report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nextpage.catalogue.pages import page_items
from nextpage.gates import Verdict
from nextpage.interactions.histories import training_histories
from nextpage.interactions.log import Dataset
from nextpage.tokenizers.item_tokenizer import TokenizerConfig, tokenize_catalogue
from nextpage.tokenizers.quality import QualityBounds, QualityReport, measure_quality, quality_verdict
from nextpage.tokenizers.semantic_ids import SemanticIds


@dataclass(frozen=True, kw_only=True)
class TokenizeResult:
    report: QualityReport
    verdict: Verdict

    def figures(self) -> dict[str, float]:
        """What the UI compares between runs."""
        figures = {f"coverage_{level}": quality.coverage for level, quality in enumerate(self.report.levels)}
        figures |= {f"perplexity_{level}": quality.perplexity for level, quality in enumerate(self.report.levels)}
        figures["error"] = self.report.levels[-1].error
        figures["colliding_before"] = self.report.colliding_before
        figures["colliding_after"] = self.report.colliding_after
        return figures


def tokenize(
    clean: Path,
    tokenizer: Path,
    config: TokenizerConfig | None = None,
    bounds: QualityBounds | None = None,
) -> TokenizeResult:
    """Read the dataset folder `clean`, write the folder `tokenizer`; see README.md for what lies in it.

    Every item of items.parquet gets codes. Only the training period shapes them.
    """
    dataset = Dataset(folder=clean)
    items = pq.read_table(dataset.items)
    item_ids = items["item_id"].to_pylist()
    texts = [text or "" for text in items["text"].to_pylist()]
    pages = page_items(training_histories(dataset, item_ids), len(item_ids))
    tokenized = tokenize_catalogue(texts, pages, config or TokenizerConfig())
    quantiser, codes = tokenized.tokenizer.quantiser, tokenized.assignment.codes
    category = None
    if "category" in items.column_names:
        category = np.asarray(items["category"].fill_null("").to_pylist(), dtype=object)
    report = measure_quality(quantiser, tokenized.vectors, tokenized.assignment, category=category)
    verdict = quality_verdict(report, bounds or QualityBounds())

    tokenizer.mkdir(parents=True, exist_ok=True)
    SemanticIds.sorted(np.asarray(item_ids, dtype=object), codes, quantiser.config.sizes).write(
        tokenizer / "semantic_ids.parquet"
    )
    tokenized.tokenizer.save(tokenizer)
    report.write(tokenizer / "quality.json")
    return TokenizeResult(report=report, verdict=verdict)
