"""Arrays of texts, sent as one literal."""

import pytest
from sqlalchemy import text

from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.engine.encoding import as_array


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["a"],
        ["", " ", "NULL", "null"],
        ['"', "\\", '\\"', "{", "}", ",", "a,b"],
        ["é", "名前", "\n", "\t", "'", "%s", ":name"],
    ],
)
def test_postgresql_reads_the_same_texts_back(empty_database: str, texts: list[str]) -> None:
    with connect(parse_url(empty_database)).connect() as connection:
        found = connection.execute(text("SELECT CAST(:texts AS text[])"), {"texts": as_array(texts)}).scalar_one()

    assert found == texts
