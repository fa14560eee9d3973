"""The response: what a request goes through, from ``start_response`` to the last chunk."""
