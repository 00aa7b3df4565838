"""The commands of the command line, a module a subject; `flows.cli` puts them together."""
