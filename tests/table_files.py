"""Tables for tests: six kinds of columns, and every kind of damage, counted."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np

WORDS = {
    0: ["dull", "slow", "grey", "boring", "weak", "tired", "poor", "plain"],
    1: ["bright", "quick", "vivid", "lively", "strong", "fresh", "rich", "bold"],
}
FILLERS = ("the", "a", "film", "scene", "story", "music", "actor", "camera", "light", "sound")


def write_image(path: Path, rng: np.random.Generator, label: int, mode: str = "RGB") -> None:
    from PIL import Image

    pixels = rng.integers(0, 120, (40, 50, 3)).astype(np.uint8)
    pixels[:, :, label * 2] += 100
    image = Image.fromarray(pixels)
    if mode == "I;16":
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256).save(path)
    elif mode == "RGBA":
        image.putalpha(128)
        image.save(path)
    elif mode == "exif":
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    elif mode == "animated":
        image.save(path, save_all=True, append_images=[image.rotate(90)])
    else:
        image.convert(mode).save(path)


def write_sound(path: Path, rng: np.random.Generator, label: int, rate: int = 8000,
                channels: int = 1, length: float = 0.6) -> None:  # fmt: skip
    import soundfile

    count = max(1, int(rate * length))
    time = np.arange(count) / rate
    wave = 0.4 * np.sin(2 * np.pi * (300 + 900 * label) * time) + 0.05 * rng.standard_normal(count)
    soundfile.write(path, np.repeat(wave[:, None], channels, 1).astype(np.float32), rate)


def damaged_table(folder: Path, rows: int = 300, seed: int = 0) -> tuple[
    Path, Counter[tuple[str, str]], int
]:  # fmt: skip
    """A CSV with all six kinds of columns and every kind of damage.

    Returns:
        The file, how many cells give nothing by column and cause (labels apart), and how many
        rows have no label.
    """
    rng = np.random.default_rng(seed)
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "folder.jpg").mkdir()
    truth: Counter[tuple[str, str]] = Counter()
    table, unlabelled = [], 0
    for row in range(rows):
        label = int(rng.integers(2))
        photo, sound = f"files/{row}.jpg", f"files/{row}.wav"
        mode = {3: "L", 5: "exif"}.get(row % 7, "RGB")
        if row % 11 == 4:
            photo, mode = f"files/{row}.png", ("RGBA", "I;16", "LA", "P")[row % 4]
        if row % 11 == 5:
            photo, mode = f"files/{row}.gif", "animated"
        write_image(folder / photo, rng, label, mode)
        shape = {4: (44_100, 2, 0.5), 6: (16_000, 1, 0.0), 8: (11_025, 3, 1.2)}
        write_sound(folder / sound, rng, label, *shape.get(row % 9, (8000, 1, 0.6)))
        words = [*rng.choice(WORDS[label], 3), *rng.choice(FILLERS, 6)]
        review = " ".join(rng.permutation(words))
        curve = json.dumps(np.round(np.sin(np.arange(12 + row % 5) * (1 + label)), 3).tolist())
        price, genre = f"{rng.normal(100 + 20 * label, 10):.2f}", f"genre {rng.integers(4)}"
        seen = f"2024-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
        cell = {"photo": photo, "sound": sound, "review": review, "curve": curve,
                "price": price, "genre": genre, "seen": seen}  # fmt: skip

        def break_(column: str, cause: str, value: str, cell: dict[str, str] = cell) -> None:
            cell[column] = value
            truth[column, cause] += 1

        if row % 10 == 0:
            kind = row // 10 % 6
            if kind == 0:
                break_("photo", "empty", "")
                break_("sound", "empty", "  ")
                break_("review", "empty", "NaN")
                break_("curve", "empty", "")
            elif kind == 1:
                break_("photo", "no such file", "files/nowhere.jpg")
                break_("sound", "no such file", "files/nowhere.wav")
                break_("price", "empty", "nan")
                break_("seen", "not a date", "yesterday")
            elif kind == 2:
                data = (folder / photo).read_bytes()
                photo = f"files/{row}-cut.jpg"
                write_image(folder / photo, rng, label)
                data = (folder / photo).read_bytes()
                (folder / photo).write_bytes(data[: len(data) // 2])
                break_("photo", "a truncated image", photo)
                (folder / sound).write_bytes(b"RIFF????WAVEnothing")
                break_("sound", "not a sound", sound)
                break_("curve", "not an array of numbers", "[1, two]")
            elif kind == 3:
                break_("photo", "a folder, not a file", "files/folder.jpg")
                break_("sound", "a folder, not a file", "files")
                break_("price", "not a number", "cheap")
                break_("genre", "empty", "")
            elif kind == 4:
                bomb = f"files/{row}-bomb.png"
                (folder / bomb).write_bytes(png_header(60_000, 60_000))
                break_("photo", "more pixels than can be trusted", bomb)
                import soundfile

                bad = f"files/{row}-nan.wav"
                soundfile.write(
                    folder / bad, np.full(100, np.nan, np.float32), 8000, subtype="FLOAT"
                )
                break_("sound", "values that are not finite", bad)
                break_("curve", "values that are not finite", "[1, Infinity, 3]")
            else:
                (folder / f"files/{row}-empty.jpg").write_bytes(b"")
                break_("photo", "an empty file", f"files/{row}-empty.jpg")
                (folder / f"files/{row}-text.wav").write_text("this is no sound")
                break_("sound", "not a sound", f"files/{row}-text.wav")
                break_("price", "not finite", "1e999")
        target = ["no", "yes"][label]
        if row % 50 == 7:
            target, unlabelled = "", unlabelled + 1
        table.append({"film": f"tt{row:07d}", "note": "same", **cell, "liked": target})
    path = folder / "films.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path, truth, unlabelled


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more than it holds."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
