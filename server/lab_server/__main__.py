"""`python -m lab_server` is the command `lab-server`."""

from lab_server.cli import main

if __name__ == "__main__":
    main()
