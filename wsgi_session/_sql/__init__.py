"""SQL as text: told apart by the grammar of each database."""
