"""What another user of the machine can do to a running command: nothing."""
