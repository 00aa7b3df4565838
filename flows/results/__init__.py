"""Rows of the result tables: how they are written and read."""
