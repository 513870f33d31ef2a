"""Files in other charsets than UTF-8, as spreadsheets save them."""

import codecs
import re

UTF8 = "utf-8"
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Python's names of the charsets that programs save text in. Python knows more, and some of them
# are no charsets of files, or take time quadratic in the length
READ = re.compile(
    r"utf-(8|16(-[lb]e)?)|ascii|cp(125[0-8]|437|850|852|866|874|932|949|950)|iso8859-\d{1,2}"
    r"|koi8-[ru]|mac-roman|shift_jis|euc_(jp|kr)|gbk|gb2312|gb18030|big5"
)


class ToUtf8:
    """Turns the chunks of a file into UTF-8, wherever they are cut.

    A file that begins with the byte order mark of UTF-16 is UTF-16, if no charset is given.
    """

    def __init__(self, charset: str | None = None) -> None:
        """Raise ValueError, with what is wrong, for a charset that can't be read."""
        self.charset = UTF8 if charset is None else python_name(charset)
        self.start: bytes | None = b"" if charset is None else None  # until a mark is looked for
        self.decoder = decoder_of(self.charset)

    def feed(self, chunk: bytes, *, final: bool = False) -> bytes:
        """Return the chunk in UTF-8; raise ValueError where it is not in the charset.

        What is UTF-8 already comes back as it is, right or wrong: its lines are judged one by one.
        """
        if self.start is not None:
            chunk = self.start + chunk
            self.start = None
            if len(chunk) < len(UTF16_MARKS[0]) and not final:
                self.start = chunk
                return b""
            if chunk.startswith(UTF16_MARKS):
                self.charset = "utf-16"
                self.decoder = decoder_of(self.charset)
        if self.decoder is None:
            return chunk
        try:
            return self.decoder.decode(chunk, final).encode()
        except UnicodeError:  # also where half of a pair of surrogates can't be encoded
            raise ValueError(f"is not {self.charset}") from None


def python_name(charset: str) -> str:
    """Return Python's name of the charset; raise ValueError for one that can't be read."""
    try:
        name = codecs.lookup(charset).name if charset.isascii() else ""
    except (LookupError, ValueError):
        name = ""
    if not READ.fullmatch(name):
        raise ValueError(f"the charset {charset} is not known: save the file as UTF-8")
    return name


def decoder_of(charset: str) -> codecs.IncrementalDecoder | None:
    """Return a decoder; None for UTF-8, which needs none."""
    return None if charset == UTF8 else codecs.getincrementaldecoder(charset)()
