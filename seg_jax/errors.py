"""The one exception for what a user can fix."""


class InputError(ValueError):
    """Something that was given can't be used.

    The message is for the person at the terminal: it names the file or field, says what is
    wrong with it and how to fix it. The command line prints it alone, without a traceback.
    """

    def __init__(self, message: str, *, field: str = ""):
        """An error about a file, or about a field of the experiment.

        Args:
          message: for the person. "{field}" in it stands for the field, "{flag}" for its flag.
          field: dotted name of the field that the error is about, such as "task.max_objects".
        """
        super().__init__(message)
        self.message, self.field = message, field

    def __str__(self) -> str:
        if not self.field:
            return self.message
        flag = f"--{self.field.replace('_', '-')}"
        return self.message.replace("{field}", self.field).replace("{flag}", flag)

    def inside(self, name: str) -> "InputError":
        """The error of an object that is itself a field of the one that the field seems to be of.

        "task.sigma" inside "pose" is "task.pose.sigma".
        """
        first, _, rest = self.field.partition(".")
        return InputError(self.message, field=f"{first}.{name}.{rest}" if rest else self.field)
