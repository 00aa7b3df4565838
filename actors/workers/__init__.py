"""The workers: what one process does for one task of a stage."""
