"""The host's cron secret: read from the environment or from a file, and never shown."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.settings import Settings

#: The most bytes read from a secret's file, and the shortest secret that is looked for in texts: a shorter one would
#: match ordinary words.
_MOST_BYTES = 10_000
_SHORTEST_SOUGHT = 4


@dataclass(frozen=True)
class Secret:
    """The host's cron secret. Its representation doesn't contain it."""

    _value: str = field(repr=False)

    def header(self) -> dict[str, str]:
        """Return the header that proves it to the host."""
        return {"Authorization": f"Bearer {self._value}"}

    def removed_from(self, text: str) -> str:
        """Return a text with the secret masked: the host may repeat what it was sent."""
        if len(self._value) < _SHORTEST_SOUGHT:
            return text
        for form in (self._value, quote(self._value, safe="")):
            text = text.replace(form, "***")
        return text


def read(settings: Settings) -> Secret:
    """Read the secret. Its file is read each time, so that a changed secret needs no restart.

    Raises:
        ConfigurationError: there is none, there are two, or it can't be sent in a header; the text doesn't contain it.
    """
    given, file = settings.cron_secret, settings.cron_secret_file
    if given and file:
        raise ConfigurationError("BACKFILL_CRON_SECRET and BACKFILL_CRON_SECRET_FILE are both set: unset one")
    if given:
        return _checked(given, "BACKFILL_CRON_SECRET")
    if file:
        return _checked(_from_file(Path(file)), "the file of BACKFILL_CRON_SECRET_FILE")
    raise ConfigurationError(
        "there is no secret for the host's cron route: set BACKFILL_CRON_SECRET or BACKFILL_CRON_SECRET_FILE where the"
        " workers run, and restart them"
    )


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode().strip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"the file of BACKFILL_CRON_SECRET_FILE can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError("the file of BACKFILL_CRON_SECRET_FILE is not text") from None


def _checked(value: str, where: str) -> Secret:
    """Return a secret that HTTP can carry: an invalid header would be repeated in an error."""
    if not (value and value.isascii() and value.isprintable()) or " " in value:
        raise ConfigurationError(f"{where} must be one or more ASCII characters, with no space or line break inside")
    return Secret(value)
