# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An output folder of a command, which removes only its own files when it runs again."""

from __future__ import annotations

from pathlib import Path

from evict3r_ros.errors import UserError

MARKER = '.evict3r'
# Files of a bag or a folder of images. A folder with any other file is not removed.
_SUFFIXES = {'.mcap', '.db3', '.yaml', '.png'}


class RunFolder:
    """The folder, and the names in it that belong to the command: files, bags and folders of images."""

    def __init__(self, path: str | Path, maker: str, names: tuple[str, ...]) -> None:
        """Set up without writing. maker: the command, which is written into the marker file."""
        self.path = Path(path)
        self._maker = maker
        self._names = names

    def prepare(self) -> None:
        """Make the folder, or remove the files of an earlier run; files of other names stay.

        Raises UserError, before anything is removed, if the folder is not empty and not made by this command, or if a
        bag or folder of images in it contains other files.
        """
        self.check()
        earlier = [self.path / name for name in self._names]
        for path in earlier:
            if path.is_dir() and not path.is_symlink():
                self._check_folder(path)
        self.claim()
        try:
            for path in earlier:
                self._remove(path)
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written: {error.strerror}') from error

    def check(self) -> None:
        """Raise UserError for a folder that this command may not write to; write nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f'{self.path} is not a folder')
        if self.path.is_dir() and any(self.path.iterdir()) and self._made_by() != self._maker:
            raise UserError(f'{self.path} is not empty and was not made by `{self._maker}`: choose another folder')

    def claim(self) -> None:
        """Make the folder and mark it as this command's; keep its files. Raises UserError if that fails."""
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / MARKER).write_text(f'{self._maker}\n', encoding='utf-8')
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written: {error.strerror}') from error

    def file(self, name: str) -> Path:
        """Return the path of one of the command's own names."""
        if name not in self._names:
            raise ValueError(f'{name} is not one of {", ".join(self._names)}')
        return self.path / name

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each existing name of the command."""
        present = [self.path / name for name in self._names if (self.path / name).exists()]
        return {
            path.name: sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
            for path in present
        }

    def _made_by(self) -> str | None:
        marker = self.path / MARKER
        return marker.read_text(encoding='utf-8', errors='replace').strip() if marker.is_file() else None

    @staticmethod
    def _remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    @staticmethod
    def _check_folder(path: Path) -> None:
        foreign = [file.name for file in path.iterdir() if file.suffix not in _SUFFIXES or not file.is_file()]
        if foreign:
            raise UserError(f'{path} holds {", ".join(sorted(foreign))}, which is not part of it: move it away first')
