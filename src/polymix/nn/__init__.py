"""What genotypes are built from."""
