"""What each part of the making of a student is worth: the same pipeline with one thing changed at a time."""
