"""The shell and the output formats of `layerprint sql`."""
