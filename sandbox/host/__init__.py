"""A sample host database: the host's tables, with fewer columns, and rows that look real."""
