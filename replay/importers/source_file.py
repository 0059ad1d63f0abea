"""Finds the files of an import under a path, and reads their text even if a gzip file is damaged."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from distila.replay.importers.counts import ImportReport
from distila.xapp.errors import InputError

CUT_SHORT = "file cut short or damaged: what could be read is used"
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1024


@dataclass(frozen=True)
class SourceFile:
    """A file to import; ``name`` is its path below the imported folder, without the endings."""

    path: Path
    name: str


def source_files(path: Path, endings: tuple[str, ...], report: ImportReport) -> list[SourceFile]:
    """The file at ``path``, or all files below it that end in one of ``endings`` (or that with ``.gz``), by
    name.

    A single file may have any name. In a folder, files with another ending are counted, hidden ones
    ignored.

    Raises:
        InputError: the path does not exist, or is a folder without a matching file.
    """
    if path.is_file():
        return [SourceFile(path, _stem(path.name, endings))]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    found = []
    names: set[str] = set()
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if not file.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if file.name.removesuffix(".gz").endswith(endings):
            name = _stem(inside.as_posix(), endings)
            if name in names:
                report.note("file has the name of another with a different ending: left out", where=str(file))
                continue
            names.add(name)
            found.append(SourceFile(file, name))
        else:
            report.note(f"file does not end in {' or '.join(endings)}", where=str(file))
    if not found:
        raise InputError(f"{path}: contains no file that ends in {' or '.join(endings)} (or that with .gz)")
    return found


def read_bytes(path: Path, report: ImportReport) -> bytes:
    """Content of a plain or gzip file; of a damaged gzip file, the content before the damage, which is noted.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not content.startswith(_GZIP_MAGIC):
        return content
    parts: list[bytes] = []
    try:
        while content.startswith(_GZIP_MAGIC):  # a gzip file may hold several members
            member = zlib.decompressobj(wbits=31)
            position = 0
            # Small chunks, because an error loses the whole chunk's output.
            while position < len(content) and not member.eof:
                parts.append(member.decompress(content[position : position + _CHUNK_BYTES]))
                position += _CHUNK_BYTES
            if not member.eof:
                report.note(CUT_SHORT, where=str(path))
                break
            content = member.unused_data + content[position:]
    except zlib.error:
        report.note(CUT_SHORT, where=str(path))
    return b"".join(parts)


def holds_oai_reports(path: Path) -> bool:
    """Whether a plain or gzip text file has HARQ reports of an OpenAirInterface gNB, as its MAC prints them."""
    return b": dlsch_rounds " in read_bytes(path, ImportReport())


def read_lines(path: Path, report: ImportReport) -> list[str]:
    r"""Lines of a plain or gzip text file with their ``\n``: a last line without one may be cut short."""
    text = read_bytes(path, report).decode("utf-8", errors="replace")
    *whole, rest = text.split("\n")
    return [line + "\n" for line in whole] + ([rest] if rest else [])


def _stem(name: str, endings: tuple[str, ...]) -> str:
    name = name.removesuffix(".gz")
    for ending in endings:
        name = name.removesuffix(ending)
    return name
