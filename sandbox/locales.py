"""Locales of the C library, for databases whose text doesn't sort by code point.

The wheel's PostgreSQL is built without ICU, its built-in locales all sort by code point, and a fresh machine (a slim
container, say) may have no locale but C. That leaves the C library's own compiler, ``localedef``, which comes with
glibc. It builds the locale in a folder of ours: from the system's sources if they are installed, and otherwise, for
en_US.UTF-8 only, from a small source that this module writes.
"""

import platform
import shutil
import subprocess
import unicodedata
from pathlib import Path

from sandbox.process import ServerError

ENGLISH = "en_US.UTF-8"
# Latin, with every letter of the languages of western and central Europe.
CHARACTERS = [chr(code) for code in range(0x20, 0x180)]


def install_locale(name: str, folder: Path) -> None:
    """Make sure that a program whose LOCPATH is ``folder`` knows the locale ``name``.

    If the machine has no sources, en_US.UTF-8 is an approximation: like the real one, it sorts Latin letters by letter,
    then accent, then case, and ignores punctuation at first; it leaves all other scripts in code point order.

    Args:
        name: A UTF-8 locale, such as en_US.UTF-8.
        folder: A folder of the caller's, which is created if needed.

    Raises:
        ServerError: This machine has no such locale, and no way to build it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    # Other C libraries (macOS has one) come with their locales. glibc's installed locales don't help: with a LOCPATH,
    # glibc ignores its locale archive.
    if target.exists() or platform.libc_ver()[0] != "glibc":
        return
    if _compile(name.partition(".")[0], "UTF-8", target):
        return
    if name != ENGLISH or not make_likeness(folder):
        raise ServerError(f"this machine lacks the locale {name}, and can't generate it: install the locale")


def make_likeness(folder: Path) -> bool:
    """Build the approximation of en_US.UTF-8 in ``folder``; return False if this machine has no ``localedef``."""
    source, characters = folder / "source", folder / "characters"
    source.write_text(_source())
    characters.write_text(_characters())
    return _compile(str(source), str(characters), folder / ENGLISH)


def _compile(source: str, characters: str, target: Path) -> bool:
    if shutil.which("localedef") is None:
        return False
    # localedef exits with an error for what the source leaves out (names of days, say), so the result decides.
    command = ["localedef", "--force", f"--inputfile={source}", f"--charmap={characters}", str(target)]
    subprocess.run(command, check=False, capture_output=True)  # noqa: S603 (our own command)
    return (target / "LC_COLLATE").exists()


def _source() -> str:
    lines = "\n".join(f"{_symbol(character)} {_weights(character)}" for character in sorted(CHARACTERS, key=_order))
    return f"""escape_char /
comment_char %
LC_CTYPE
upper <U0041>..<U005A>
lower <U0061>..<U007A>
digit <U0030>..<U0039>
END LC_CTYPE
LC_COLLATE
order_start forward;forward;forward;forward,position
{lines}
order_end
END LC_COLLATE
"""


def _characters() -> str:
    lines = "\n".join(
        f"{_symbol(character)} {''.join(f'/x{byte:02x}' for byte in character.encode())}" for character in CHARACTERS
    )
    return f"""<code_set_name> UTF-8
<mb_cur_min> 1
<mb_cur_max> 6
<escape_char> /
<comment_char> %
CHARMAP
{lines}
END CHARMAP
"""


def _symbol(character: str) -> str:
    return f"<U{ord(character):04X}>"


def _base(character: str) -> str:
    return unicodedata.normalize("NFD", character)[0].lower()


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if lower in CHARACTERS else character


def _order(character: str) -> tuple[bool, str, str, bool]:
    return character.isalnum(), _base(character), _lower(character), character.isupper()


def _weights(character: str) -> str:
    """Return the weights: by letter, then accent, then case; anything but letters and digits counts last."""
    if not character.isalnum():
        return f"IGNORE;IGNORE;IGNORE;{_symbol(character)}"
    return ";".join(_symbol(weight) for weight in (_base(character), _lower(character), character, character))
