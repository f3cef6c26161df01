"""The databases that a store works on, and what differs between them."""
