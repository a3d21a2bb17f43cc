"""From a clean dataset to a tokenizer folder."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nextpage.catalogue.pages import page_items
from nextpage.interactions.histories import training_histories
from nextpage.interactions.log import Dataset
from nextpage.tokenizers.item_tokenizer import TokenizerConfig, tokenize_catalogue
from nextpage.tokenizers.quality import measure_quality
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.shards import rank

SEMANTIC_IDS, QUALITY = "semantic_ids.parquet", "quality.json"


def tokenize_dataset(clean: Path, tokenizer: Path, config: TokenizerConfig) -> None:
    """Read the dataset folder `clean`, fill the folder `tokenizer`, `semantic_ids.parquet` last.

    Every item of items.parquet gets codes. Only the training period shapes them. Under torch.distributed every process
    calls this and the first one writes.
    """
    dataset = Dataset(folder=clean)
    items = pq.read_table(dataset.items)
    item_ids = items["item_id"].to_pylist()
    texts = [text or "" for text in items["text"].to_pylist()]
    pages = page_items(training_histories(dataset, item_ids), len(item_ids))
    tokenized = tokenize_catalogue(texts, pages, config)
    if rank() > 0:
        return
    quantiser, codes = tokenized.tokenizer.quantiser, tokenized.assignment.codes
    category = None
    if "category" in items.column_names:
        category = np.asarray(items["category"].fill_null("").to_pylist(), dtype=object)
    report = measure_quality(quantiser, tokenized.vectors, tokenized.assignment, category=category)
    tokenizer.mkdir(parents=True, exist_ok=True)
    tokenized.tokenizer.save(tokenizer)
    report.write(tokenizer / QUALITY)
    SemanticIds.sorted(np.asarray(item_ids, dtype=object), codes, quantiser.config.sizes).write(
        tokenizer / SEMANTIC_IDS
    )
