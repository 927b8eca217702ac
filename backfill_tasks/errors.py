"""Every error that an operator can meet. Its text says what is wrong and what to do, in one line."""


class BackfillError(Exception):
    """What all errors of this package derive from; its text is meant for the operator as it is."""


class ConfigurationError(BackfillError):
    """A setting is missing or makes no sense; nothing was contacted and nothing was changed."""


class UsageError(BackfillError):
    """The command's words contradict each other or name something that does not exist; nothing was changed."""


class UnreachableError(BackfillError):
    """PostgreSQL or Redis does not answer at the address that is configured."""


class LedgerError(BackfillError):
    """The ledger is missing, is of another version, or may not be used by this role."""


class HostError(BackfillError):
    """The host's tables are missing, or this role may not do with them what the backfill must."""


class SeedingError(BackfillError):
    """A run is in the ledger, but Redis failed while its pages were sent. `run`: its id."""

    def __init__(self, run: str, why: str) -> None:
        super().__init__(
            f"Redis failed while run {run} was seeded: {why}; the watchdog goes on with it once Redis is back,"
            f" and so does `backfill resume {run}`"
        )
        self.run = run


class PluginError(UsageError, KeyError):
    """A backfill that is asked for isn't installed, or its package can't be used.

    A KeyError, so that a mapping of backfills is a mapping.
    """

    __str__ = UsageError.__str__


class UnverifiedError(BackfillError):
    """A verification couldn't see all that it had to see, and so it calls the run neither clean nor wrong."""


class CheckpointError(BackfillError):
    """A checkpoint file can't be read or written, or does not say what a checkpoint says."""


class ExtraError(BackfillError):
    """Packages are missing that only this command needs, and that are installed on request only."""


class MalformedError(BackfillError):
    """A message from the broker isn't one that this application sends; the text names the part that is wrong."""
