"""The results of the commands as people read them in a terminal of 80 columns or less."""
