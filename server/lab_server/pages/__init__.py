"""The pages of the dashboard: HTML that the server renders, and a little JavaScript beside it."""
