"""A scope: the sessions that it holds, what becomes of their transactions, and its end."""
