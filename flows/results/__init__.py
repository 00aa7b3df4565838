"""From scores to the rows of the result tables, and back."""
