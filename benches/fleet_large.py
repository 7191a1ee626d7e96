"""fleet.py with 10,000 tenants, beside the raw loop alone."""

from fleet import main

if __name__ == "__main__":
    main("10000", "fleet-large", "A large fleet")
