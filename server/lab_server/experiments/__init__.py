"""The experiments that come with the server."""
