"""Searches: each is a log, from which what to do next follows."""
