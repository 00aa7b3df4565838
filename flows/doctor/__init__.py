"""`layerprint doctor`: checks of the machine, the services and a spec before any work."""
