import numpy as np
import pyarrow.parquet as pq

from nextpage.catalogue.pages import PageItems, page_items
from nextpage.interactions.histories import training_histories
from nextpage.interactions.log import Dataset


def read(dataset: Dataset) -> PageItems:
    item_ids = pq.read_table(dataset.items)["item_id"].to_pylist()
    return page_items(training_histories(dataset, item_ids), len(item_ids))


def test_pages_are_those_of_training_with_what_was_clicked_or_ordered(dataset):
    rows = pq.read_table(dataset.interactions).to_pylist()
    item_row = {item: row for row, item in enumerate(pq.read_table(dataset.items)["item_id"].to_pylist())}
    wanted: dict[str, set[int]] = {}
    for row in rows:
        if row["behaviour"] != "exposed" and row["timestamp"] < dataset.split().validation_start:
            wanted.setdefault(row["request_id"], set()).add(item_row[row["item_id"]])
    pages = read(dataset)
    found = [set(pages.item[pages.page == page].tolist()) for page in range(pages.page.max() + 1)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, wanted.values()))


def test_what_happens_after_training_changes_nothing(dataset):
    before = read(dataset)
    table = pq.read_table(dataset.interactions)
    later = np.asarray(table["timestamp"].to_pylist()) >= dataset.split().validation_start
    item = np.where(later, "i0000", np.asarray(table["item_id"].to_pylist()))
    assert (item != np.asarray(table["item_id"].to_pylist())).any()
    changed = table.set_column(table.column_names.index("item_id"), table.schema.field("item_id"), [item.tolist()])
    pq.write_table(changed, dataset.interactions)
    after = read(dataset)
    np.testing.assert_array_equal(before.page, after.page)
    np.testing.assert_array_equal(before.item, after.item)


def test_pages_of_one_item_keep_no_company():
    pages = PageItems(page=np.asarray([0, 1, 1, 2]), item=np.asarray([5, 1, 2, 1]), items=6).with_company()
    np.testing.assert_array_equal(pages.page, [0, 0])
    np.testing.assert_array_equal(pages.item, [1, 2])
