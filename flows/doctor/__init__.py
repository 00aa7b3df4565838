"""`layerprint doctor`: checks of the machine, the services and the store before an audit."""
