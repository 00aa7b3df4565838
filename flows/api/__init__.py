"""What `import layerprint` offers: an audit, an attribution and SQL as Python calls."""
