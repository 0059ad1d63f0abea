"""The student that ships: its recipe, build, gates and model card, and the search for its size."""
