"""What all tests share."""

from hypothesis import settings

# A busy machine is no fault of the code: timings live in benchmarks.
settings.register_profile("distila", deadline=None)
settings.load_profile("distila")
