"""A page: one short transaction of fence, admission, statement and record."""
