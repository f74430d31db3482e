"""What every search is compared with."""
