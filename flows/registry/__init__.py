"""The state of every release: what has been audited, what is due, what failed, which tables are in use."""
