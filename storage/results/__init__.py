"""Result tables in Parquet, and SQL over them."""
