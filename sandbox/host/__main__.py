"""`python -m sandbox.host`: fill the empty database of DATABASE_URL with the sample of the demo, once."""

import os
import sys

import psycopg

from sandbox.host.sample import create_schema, fill

LEADS = 20_000


def main() -> None:
    """Make the host's tables where there are none, and fill them where they are empty."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        if connection.execute("""SELECT to_regclass('"Lead"')""").fetchone() == (None,):
            create_schema(connection)
        if connection.execute('SELECT EXISTS (SELECT FROM "Lead")').fetchone() == (True,):
            sys.stdout.write("there are leads already: left as they are\n")
            return
        sample = fill(connection, LEADS)
    sys.stdout.write(f"{sample.leads:,} leads, {sample.eligible:,} to be done\n")


if __name__ == "__main__":
    main()
