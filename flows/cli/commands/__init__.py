"""The commands of the command line, one module per subject; `flows.cli.main` registers them."""
