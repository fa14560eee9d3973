"""Who comes with nothing but Python and make."""
