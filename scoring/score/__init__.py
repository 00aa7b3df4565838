"""Scores of one layer."""
