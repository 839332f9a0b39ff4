# SPDX-License-Identifier: Apache-2.0
"""Which allocator does a running process use?

Called by measure.py while a measured process runs. A library that stands in
/proc/PID/maps is mapped, no more: Debian's redis-server is linked to
libjemalloc, so that library is mapped there whatever malloc the process uses.
The proof is therefore taken one step further: the slots through which the
program, its libraries and libc itself call malloc, calloc, realloc and free
(the global offset table, written by the loader) are read from /proc/PID/mem,
and each address found there is looked up in the maps. Nothing runs in the
process that is looked at, and it is not stopped.

Where /proc/PID/mem may not be read (a hardened container), the mapping alone
has to do; the answer says which of the two it is.
"""

import mmap
import os
import struct
from dataclasses import dataclass

SYMBOLS = (b"malloc", b"calloc", b"realloc", b"free")

# ELF constants (System V ABI): program header types and dynamic tags.
PT_LOAD, PT_DYNAMIC = 1, 2
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 5, 6, 7, 8, 23
SYMBOL_BYTES = 24

# Relocation types that fill a slot with a function's address:
# GLOB_DAT and JUMP_SLOT of x86-64, then of aarch64.
SLOT_TYPES = frozenset((6, 7, 1025, 1026))


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    offset: int
    executable: bool
    path: str


@dataclass(frozen=True)
class Finding:
    """What was seen in one process at one moment."""

    owners: frozenset  # Paths of the files that the slots lead to; empty: not bound yet.
    mapped: frozenset  # Paths of all files mapped executable.
    slots_readable: bool

    def verdict(self, allocator_path):
        """True: in use. False: another one is in use. None: cannot be told yet."""
        if self.slots_readable:
            if not self.owners:
                return None
            return self.owners == {allocator_path}
        return True if allocator_path in self.mapped else None


def read_maps(pid):
    """The mappings of a process, or an empty list once it has ended."""
    mappings = []
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                start, end = (int(part, 16) for part in fields[0].split("-"))
                path = fields[5] if len(fields) > 5 else ""
                mappings.append(
                    Mapping(start, end, int(fields[2], 16), "x" in fields[1], path)
                )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return mappings


@dataclass(frozen=True)
class Image:
    """What an ELF file says about its calls of malloc; addresses as in the file.

    stubs: where a program that is not position-independent takes the address of
    free, the loader gives everyone the address of the program's own stub, which
    jumps on through one of the slots. It says nothing of who is behind it.
    """

    start: int
    slots: tuple
    stubs: frozenset


NO_IMAGE = Image(0, (), frozenset())
_images = {}


def _image_of(path):
    """The Image of a file; one without slots where it is no ELF file of our kind."""
    if path not in _images:
        try:
            with open(path, "rb") as file:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as image:
                    _images[path] = _parse(image)
        except (OSError, ValueError, struct.error, IndexError):
            # Not an ELF file of this kind, or gone: it proves nothing.
            _images[path] = NO_IMAGE
    return _images[path]


def _parse(image):
    # 64-bit, little-endian only: the two architectures that tarn is for.
    if image[:6] != b"\x7fELF\x02\x01":
        return NO_IMAGE
    header_offset, = struct.unpack_from("<Q", image, 32)
    header_size, header_count = struct.unpack_from("<HH", image, 54)
    loads, dynamic = [], None
    for index in range(header_count):
        kind, _, offset, address, _, file_bytes, _, _ = struct.unpack_from(
            "<IIQQQQQQ", image, header_offset + index * header_size
        )
        if kind == PT_LOAD:
            loads.append((address, offset, file_bytes))
        elif kind == PT_DYNAMIC:
            dynamic = (offset, file_bytes)
    if dynamic is None or not loads:
        return NO_IMAGE

    def file_offset(address):
        for start, offset, file_bytes in loads:
            if start <= address < start + file_bytes:
                return address - start + offset
        raise ValueError("an address outside of the file")

    tags = {}
    for position in range(dynamic[0], dynamic[0] + dynamic[1], 16):
        tag, value = struct.unpack_from("<QQ", image, position)
        if tag == 0:
            break
        tags[tag] = value
    symbols, strings = file_offset(tags[DT_SYMTAB]), file_offset(tags[DT_STRTAB])
    slots, stubs = [], set()
    for table, table_bytes in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
        if not tags.get(table_bytes):
            continue
        first = file_offset(tags[table])
        for slot, info, _ in struct.iter_unpack(
            "<QQq", image[first : first + tags[table_bytes]]
        ):
            if info & 0xFFFFFFFF not in SLOT_TYPES:
                continue
            name, _, _, section, value = struct.unpack_from(
                "<IBBHQ", image, symbols + (info >> 32) * SYMBOL_BYTES
            )
            text = image[strings + name : strings + name + 8]
            if text.split(b"\0", 1)[0] in SYMBOLS:
                slots.append(slot)
                if section == 0 and value != 0:
                    stubs.add(value)
    return Image(min(address for address, _, _ in loads), tuple(slots), frozenset(stubs))


def look(pid):
    """A Finding for the process, or None where it has ended or is not running yet."""
    mappings = read_maps(pid)
    if not mappings:
        return None
    mapped = frozenset(m.path for m in mappings if m.executable and m.path.startswith("/"))
    first_of_path = {}
    for mapping in mappings:
        if mapping.path.startswith("/"):
            first_of_path.setdefault(mapping.path, mapping)
    images = {}
    for path in mapped:
        image = _image_of(path)
        # The loader puts the page of the image's first address at the first mapping.
        images[path] = (image, first_of_path[path].start - image.start // 4096 * 4096)
    stubs = {stub + shift for image, shift in images.values() for stub in image.stubs}
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return Finding(frozenset(), mapped, False)
    pairs = set()
    try:
        for path, (image, shift) in images.items():
            for slot in image.slots:
                data = os.pread(memory, 8, slot + shift)
                if len(data) == 8:
                    address, = struct.unpack("<Q", data)
                    owner = _owner(mappings, address)
                    if owner and address not in stubs:
                        pairs.add((owner, path))
    except OSError:
        # The process ended or executed another program between two reads.
        return None
    finally:
        os.close(memory)
    return Finding(_decide(pairs), mapped, True)


def _owner(mappings, address):
    for mapping in mappings:
        if mapping.start <= address < mapping.end:
            return mapping.path if mapping.path.startswith("/") else None
    return None


def _is_libc(path):
    return os.path.basename(path).startswith("libc.so.")


def _decide(pairs):
    """The owners, out of pairs of (file that a slot leads to, file that holds the slot).

    A slot that leads into its own file is a lazy one that was not called yet, and says
    nothing. Only libc calls itself; that counts where no other slot speaks, because
    libc's slots for realloc and calloc are lazy, too, also under another allocator.
    """
    others = {owner for owner, holder in pairs if owner != holder}
    return frozenset(others or {owner for owner, _ in pairs if _is_libc(owner)})


def libc_path():
    """The path of the libc that this interpreter runs on, as /proc/PID/maps names it."""
    for mapping in read_maps(os.getpid()):
        if mapping.executable and _is_libc(mapping.path):
            return mapping.path
    return None
