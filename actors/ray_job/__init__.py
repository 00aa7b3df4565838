"""Tasks run by a Ray job on another cluster."""
