"""The demo: its material, and how it is run."""
