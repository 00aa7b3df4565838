"""The runtime of a command: cluster, machine settings, progress, and values made once."""
