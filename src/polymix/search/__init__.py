"""The engine that runs every method: driver, finalists, clock, runners."""
