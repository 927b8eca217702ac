"""A page: one short transaction."""
