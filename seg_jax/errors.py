"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Something that was given can't be used.

    The message is for the person at the terminal: it names the file or field, says what is
    wrong with it and how to mend it. The command line prints it alone, without a traceback.
    """
