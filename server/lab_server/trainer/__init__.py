"""What runs in processes of its own: the forkserver, and the trainers that it forks."""
