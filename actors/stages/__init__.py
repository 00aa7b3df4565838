"""The stages of an audit: each plans its tasks, has the workers do them, and finds what is already in the store."""
