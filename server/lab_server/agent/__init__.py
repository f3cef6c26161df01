"""`lab-agent`: runs trainers on this machine for a server on another."""
