"""Figures of audits: charts and pairs of images."""
