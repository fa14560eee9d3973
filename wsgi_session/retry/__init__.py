"""The retry: a request, or a job, that is done again because its database has asked for it."""
