"""`python -m sandbox.host`: fill the empty database of DATABASE_URL with a sample, once."""

import argparse
import os
import sys

import psycopg

from sandbox.host.sample import create_schema, fill

LEADS = 20_000


def main() -> None:
    """Create the host's tables if they are missing, and fill them if they are empty."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.host", description=__doc__)
    parser.add_argument("--leads", type=int, default=LEADS, help="how many leads (%(default)s)")
    arguments = parser.parse_args()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        if connection.execute("""SELECT to_regclass('"Lead"')""").fetchone() == (None,):
            create_schema(connection)
        if connection.execute('SELECT EXISTS (SELECT FROM "Lead")').fetchone() == (True,):
            sys.stdout.write("there are leads already: left as they are\n")
            return
        sample = fill(connection, arguments.leads)
    sys.stdout.write(f"{sample.leads:,} leads, {sample.eligible:,} to be done\n")


if __name__ == "__main__":
    main()
