"""Items come and go between releases: who comes gets codes from the release's tokenizer, who stays keeps its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from nextpage.catalogue_folder import CatalogueManifest, load_catalogue, read_catalogue_manifest, write_catalogue
from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.release import verify
from nextpage.tokenizers.item_tokenizer import ItemTokenizer
from nextpage.tokenizers.semantic_ids import SemanticIds


def renew_catalogue(
    release: Path, folder: Path, *, arriving: pa.Table, leaving: Sequence[str] = ()
) -> CatalogueManifest:
    """Seal in `folder` the catalogue that it holds (at first, the release's own) with these items and without those.

    `arriving` has item_id and text, and whatever else of the release's item table is known. An item that is there gets
    its row replaced; one that left comes back with the codes it had; so the same call twice changes nothing. Orders
    that are not told are those of before, of new items 0. Raises ReleaseRefused, CatalogueRefused, and ValueError
    where the tables do not fit.
    """
    release_hash = verify(release).hash
    manifest = read_catalogue_manifest(folder)
    if manifest is None:
        codes, items = SemanticIds.read(release / "semantic_ids.parquet"), pq.read_table(release / "items.parquet")
        before = ServedCatalogue.of(codes, items)
    else:
        before = load_catalogue(folder, manifest, release_hash=release_hash)
    known = before.known
    if unknown := sorted(set(leaving) - set(known.item_ids.tolist())):
        raise ValueError(f"item {unknown[0]!r} cannot leave: it never was in the catalogue")
    arriving = _fitting(arriving, before)
    gone = pa.array([*arriving["item_id"].to_pylist(), *leaving], pa.string())
    items = pa.concat_tables([before.items.filter(pc.invert(pc.is_in(before.items["item_id"], gone))), arriving])
    known = _with_codes(known, arriving, ItemTokenizer.load(release / "tokenizer"))
    present = np.isin(known.item_ids.astype(str), np.asarray(items["item_id"].to_pylist(), dtype=str))
    semantic_ids = known.only(present)
    row = pc.index_in(pa.array(semantic_ids.item_ids, pa.string()), value_set=items["item_id"].combine_chunks())
    return write_catalogue(
        folder,
        release_hash=release_hash,
        semantic_ids=semantic_ids,
        items=items.take(row),
        departed=known.only(~present),
    )


def read_items(path: Path) -> pa.Table:
    """A table of items, Parquet or CSV; item ids are text, whatever they look like."""
    if path.suffix != ".csv":
        return pq.read_table(path)
    return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types={"item_id": pa.string()}))


def _with_codes(known: SemanticIds, arriving: pa.Table, tokenizer: ItemTokenizer) -> SemanticIds:
    """`known`, whose codes stay, and those of the arriving items that it lacks."""
    new = arriving.filter(pc.invert(pc.is_in(arriving["item_id"], pa.array(known.item_ids, pa.string()))))
    if not new.num_rows:
        return known
    return tokenizer.assign_new(known, new["item_id"].to_pylist(), new["text"].to_pylist())


def _fitting(arriving: pa.Table, before: ServedCatalogue) -> pa.Table:
    """The arriving items with the columns of the catalogue's item table, in its types."""
    schema = before.items.schema.remove_metadata()
    if strange := sorted(set(arriving.column_names) - set(schema.names)):
        raise ValueError(
            f"the new items' column {strange[0]!r} is none of the catalogue's {schema.names}: leave it out"
        )
    for name in ("item_id", "text"):
        if name not in arriving.column_names or arriving[name].null_count:
            raise ValueError(f"the new items have no {name!r}, or not all of them: give every item one")
    item_ids = arriving["item_id"].cast(pa.string())
    if len(set(item_ids.to_pylist())) < len(item_ids):
        raise ValueError("an item comes twice among the new items: give each one row")
    former = before.items["orders"].take(pc.index_in(item_ids, value_set=before.items["item_id"].combine_chunks()))
    columns = {name: arriving[name] if name in arriving.column_names else None for name in schema.names}
    told = former if columns["orders"] is None else pc.coalesce(columns["orders"].cast(former.type), former)
    columns |= {"item_id": item_ids, "orders": pc.fill_null(told, 0)}
    count = arriving.num_rows
    arrays = [
        pa.nulls(count, field.type) if (column := columns[field.name]) is None else column.cast(field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
