"""The servers: each is started for real, and compared with itself without the middleware."""
