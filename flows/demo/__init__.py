"""The demo: its images, its encoder and its run."""
