"""All that reads a person's table."""
