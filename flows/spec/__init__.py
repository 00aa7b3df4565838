"""The spec of an audit: fields, releases, cluster, and the example that `init` writes."""
