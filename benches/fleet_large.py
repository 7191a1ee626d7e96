"""Runs fleet.py with 10,000 tenants, compared with the raw loop only."""

from fleet import main

if __name__ == "__main__":
    main("10000", "fleet-large", "A large fleet")
