"""The errors a user can cause. Each message is one line: what is wrong, why, what to do instead."""


class RequestError(ValueError):
    """What was asked for cannot be done: an unknown name, a bad value, a missing or damaged file.

    The command line prints the message and exits with code 2, without a traceback.
    """


class DivergedError(RuntimeError):
    """The work itself failed, for instance a loss that is no longer finite (exit code 1)."""


class GraphError(RuntimeError):
    """The recorded graph cannot be walked backward: no seed, freed, or a saved array was changed."""


class LibraryError(TypeError):
    """Arrays of two libraries (NumPy on the host, CuPy on the GPU) met in one op, or none was given."""


class CaptureError(RequestError):
    """A step cannot be captured: it waits for the device, draws random numbers, or does not write in place."""
