"""The guarantees that the README promises, a file for each."""
