"""Admission: whether the next page may start now, and how large it may be."""
