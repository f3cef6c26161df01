"""The revisions of the store's tables, one a file, each frozen once it is released."""
