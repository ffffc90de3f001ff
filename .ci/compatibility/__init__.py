"""What callers, operators and scripts build on, locked in contract/ and held against today's code."""
