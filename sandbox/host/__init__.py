"""A sample host database: the host's tables, smaller, and rows that look like real ones."""
