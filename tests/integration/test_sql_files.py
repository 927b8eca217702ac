"""Every SQL file is a complete statement: PostgreSQL prepares it once names and parameters are replaced."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from integration.site import Site

from backfill_tasks.backfills.host.sql import quoted
from backfill_tasks.engine.database import load_sql

#: The folders of SQL files, by package.
FOLDERS = {
    "backfill_tasks.engine": ("sql",),
    "backfill_tasks.diagnosis": ("sql",),
    "backfill_tasks.backfills": ("host", "lead_scoring", "message_rollups"),
}

#: Files with a placeholder, and the files that fill it.
PARTS = {
    "host/lanes.sql": ("lead_scoring/split.sql", "message_rollups/split.sql"),
    "lead_scoring/verdict.sql": ("lead_scoring/verify.sql", "lead_scoring/verify_full.sql"),
    "message_rollups/verdict.sql": ("message_rollups/verify.sql", "message_rollups/verify_full.sql"),
}

#: A table that the sample host doesn't have.
ON_NEWER_HOSTS = 'CREATE TABLE public."InboxCountsDirty" ("clientId" text PRIMARY KEY, "dirtyAt" timestamp(3))'

#: A parameter, as in SQLAlchemy and psql; `::text` is a cast.
PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


def paths() -> Iterator[tuple[str, str, str | None]]:
    """Yield each file's package and path, with each file that can fill its placeholder."""
    for package, folders in FOLDERS.items():
        for folder in folders:
            for entry in sorted(files(package).joinpath(folder).iterdir(), key=lambda found: found.name):
                path = f"{folder}/{entry.name}"
                if path.endswith(".sql"):
                    yield from ((package, path, part) for part in PARTS.get(path, (None,)))


def numbered(sql: str) -> str:
    """Return the statement with $1, $2 … in place of its named parameters."""
    code = re.sub(r"--.*", "", sql)
    names = list(dict.fromkeys(PARAMETER.findall(code)))
    return PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", code)


@pytest.mark.parametrize(("package", "path", "part"), list(paths()))
def test_postgresql_prepares_the_file(site: Site, package: str, path: str, part: str | None) -> None:
    sql = load_sql(package, path).replace("{host}", quoted("public"))
    if part is not None:
        sql = sql.replace("{leads}", load_sql(package, part).replace("{host}", quoted("public")))

    with site.host.session() as connection:
        connection.execute(ON_NEWER_HOSTS)
        connection.execute(f"PREPARE stored AS {numbered(sql)}".encode())
        connection.rollback()
