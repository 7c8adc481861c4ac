"""What all tests share."""

import signal

from hypothesis import settings

# how long an example takes says nothing here: on a busy machine one took 743 ms that takes 2
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# a shell lets what it starts in the background ignore Ctrl-C, and so would every process that a test starts and stops
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
