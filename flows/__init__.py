"""Prefect flows, and all that people call: the spec, the command line, reports."""
