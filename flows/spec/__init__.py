"""The spec of an audit: its fields, releases and cluster, and the example that `init` writes."""
