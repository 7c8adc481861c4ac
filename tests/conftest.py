"""What all tests share."""

from hypothesis import settings

# how long an example takes says nothing here: on a busy machine one took 743 ms that takes 2
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
