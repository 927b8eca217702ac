"""Every error that an operator can meet. Its text says what is wrong and what to do, in one line."""


class BackfillError(Exception):
    """What all errors of this package derive from; its text is meant for the operator as it is."""


class ConfigurationError(BackfillError):
    """A setting is missing or makes no sense; nothing was contacted and nothing was changed."""


class UsageError(BackfillError):
    """The command's words contradict each other or name something that does not exist; nothing was changed."""


class OverlapError(UsageError):
    """An unfinished run walks items of a new run too. A run that is started by force goes beside it."""


class OptionConflictError(UsageError):
    """A run can't have an option beside one that it has. `run`: its id; `has`, `other`: the options' names."""

    def __init__(self, run: str, has: str, other: str) -> None:
        super().__init__(f"run {run} has {has}, and {other} would say the same in another way")
        self.run = run
        self.has = has
        self.other = other


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


class StandbyError(ConfigurationError):
    """The replica of the settings is no standby of the database, or not of this one."""


class UnverifiedError(BackfillError):
    """A standby didn't show a verification all that it had to see: it calls the run neither clean nor wrong."""


class CheckpointError(BackfillError):
    """A checkpoint file can't be read or written, or does not say what a checkpoint says."""


class DamagedCheckpointError(CheckpointError):
    """A file is no checkpoint. The ledger, or a cursor, is another way to go on."""


class DryRunCheckpointError(CheckpointError):
    """A checkpoint of the old script is from a dry run, and would skip what it counted."""


class ExtraError(BackfillError):
    """Packages are missing that only this command needs, and that are installed on request only."""


class MalformedError(BackfillError):
    """A message from the broker isn't one that this application sends; the text names the part that is wrong."""
