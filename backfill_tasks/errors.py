"""The errors that an operator can meet. Each text says in one line what is wrong and what to do."""


class BackfillError(Exception):
    """The base of all errors of this package; the text is meant for the operator as it is."""


class ConfigurationError(BackfillError):
    """A setting is missing or invalid; nothing was contacted and nothing was changed."""


class UsageError(BackfillError):
    """The command's arguments contradict each other or name something that does not exist; nothing was changed."""


class OverlapError(UsageError):
    """An unfinished run would walk items of the new run, too. A forced start ignores this."""


class OptionConflictError(UsageError):
    """A run can't have an option together with one it has. `run`: its id; `has`, `other`: the options' names."""

    def __init__(self, run: str, has: str, other: str) -> None:
        super().__init__(f"run {run} has {has}, which contradicts {other}: set only one of them")
        self.run = run
        self.has = has
        self.other = other


class UnreachableError(BackfillError):
    """PostgreSQL or Redis does not answer at the configured address."""


class LedgerError(BackfillError):
    """The ledger is missing, has another version, or this role may not use it."""


class HostError(BackfillError):
    """The host's tables are missing, or this role lacks a right on them that the backfill needs."""


class SeedingError(BackfillError):
    """A run is in the ledger, but Redis failed while its pages were being sent. `run`: its id."""

    def __init__(self, run: str, why: str) -> None:
        super().__init__(
            f"Redis failed while run {run} was seeded: {why}. The watchdog reseeds the run as soon as Redis is back. To"
            f" do it at once: backfill resume {run}"
        )
        self.run = run


class PluginError(UsageError, KeyError):
    """A requested backfill isn't installed, or its package can't be used.

    It is also a KeyError, so that a mapping of backfills behaves like any other mapping.
    """

    __str__ = UsageError.__str__


class StandbyError(ConfigurationError):
    """The configured replica is not a standby, or not one of this database."""


class UnverifiedError(BackfillError):
    """A standby didn't show a verification everything it needs: the run is called neither clean nor wrong."""


class CheckpointError(BackfillError):
    """A checkpoint file can't be read or written, or is not a valid checkpoint."""


class DamagedCheckpointError(CheckpointError):
    """A file is not a valid checkpoint. The ledger, or a cursor, is another way to continue."""


class DryRunCheckpointError(CheckpointError):
    """A checkpoint of the old script is from a dry run, and would skip the items it counted."""


class ExtraError(BackfillError):
    """Optional packages that only this command needs are not installed."""


class MalformedError(BackfillError):
    """A message from the broker isn't one that this application sends; the text names the invalid part."""
