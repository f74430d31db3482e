"""The search methods, a folder each: space, model and strategy side by side."""
