"""What a running command shares with its flows: the cluster, the machine settings, progress."""
