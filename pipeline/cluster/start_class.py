"""A Java class that starts a job server which has nothing to upload.

For each job Beam's job server uploads to the cluster all that `java.class.path` names, and what the manifests of those
jars name: 215 MB, fifteen seconds, though the cluster has all of it on a class path of its own. No option says
otherwise, so the server is started by this, when its classes are found already:

    public class Start {
        public static void main(String[] args) throws Exception {
            System.setProperty("java.class.path", "");
            Driver.main(args);
        }
    }

Six instructions, written down here as the Java virtual machine specification has them (chapters 4 and 6): whoever has
a Java runtime need not have a compiler.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

from pipeline.aside import write_whole

NAME = "Start"

_UTF8, _CLASS, _STRING, _METHOD, _NAME_AND_TYPE = 1, 7, 8, 10, 12
_PUBLIC, _STATIC, _SUPER = 0x0001, 0x0008, 0x0020
_JAVA_8 = 52
_STRINGS_TO_STRING = "(Ljava/lang/String;Ljava/lang/String;)Ljava/lang/String;"
_ARGS_TO_NOTHING = "([Ljava/lang/String;)V"


def write_jar(path: Path, driver: str) -> None:
    """Writes a jar that holds this class alone; `driver` is the full name of the job server's class."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as jar:
        jar.writestr(zipfile.ZipInfo(f"{NAME}.class"), class_file(driver))
    write_whole(path, data.getvalue())


def class_file(driver: str) -> bytes:
    """The class, compiled."""
    pool = _Pool()
    set_property = pool.method("java/lang/System", "setProperty", _STRINGS_TO_STRING)
    main = pool.method(driver.replace(".", "/"), "main", _ARGS_TO_NOTHING)
    code = struct.pack(
        ">BBBBBHBBBHB",
        *(0x12, pool.string("java.class.path")),  # ldc
        *(0x12, pool.string("")),  # ldc
        *(0xB8, set_property),  # invokestatic
        0x57,  # pop
        0x2A,  # aload_0: args
        *(0xB8, main),  # invokestatic
        0xB1,  # return
    )
    stack, variables = 2, 1
    body = struct.pack(">HHI", stack, variables, len(code)) + code + struct.pack(">HH", 0, 0)
    attribute = struct.pack(">HI", pool.utf8("Code"), len(body)) + body
    names = (pool.utf8("main"), pool.utf8(_ARGS_TO_NOTHING))
    method = struct.pack(">HHHH", _PUBLIC | _STATIC, *names, 1) + attribute
    this, parent = pool.klass(NAME), pool.klass("java/lang/Object")
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, _JAVA_8, len(pool.entries) + 1) + b"".join(pool.entries)
    counts = struct.pack(">HHHHHH", _PUBLIC | _SUPER, this, parent, 0, 0, 1)  # no interfaces, no fields, one method
    return head + counts + method + struct.pack(">H", 0)


class _Pool:
    """The constants of a class, each once; a constant is known by its number, from 1 on."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def utf8(self, text: str) -> int:
        data = text.encode()
        return self._add(struct.pack(">BH", _UTF8, len(data)) + data)

    def string(self, text: str) -> int:
        return self._add(struct.pack(">BH", _STRING, self.utf8(text)))

    def klass(self, name: str) -> int:
        return self._add(struct.pack(">BH", _CLASS, self.utf8(name)))

    def method(self, owner: str, name: str, kind: str) -> int:
        named = self._add(struct.pack(">BHH", _NAME_AND_TYPE, self.utf8(name), self.utf8(kind)))
        return self._add(struct.pack(">BHH", _METHOD, self.klass(owner), named))

    def _add(self, entry: bytes) -> int:
        if entry not in self.entries:
            self.entries.append(entry)
        return self.entries.index(entry) + 1
