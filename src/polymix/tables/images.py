"""Images of any kind as bytes of one size: `(channels, height, width)` uint8."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from polymix.errors import MissingExtraError
from polymix.tables.recipe import ImageRecipe
from polymix.tables.unreadable import Unreadable, file_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What is opened; others of Pillow's run foreign programs."""

PIXELS = 50_000_000
LARGE = 8_000_000
"""Pixels from which an image is made smaller before anything else, which takes several copies."""

SIDES = (32, 48, 64)
LARGEST_KEPT = 96


def pillow() -> ModuleType:
    """The optional library Pillow's `Image`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            f'reading images needs pillow ({error}): pip install "polymix[image]"'
        ) from None
    Image.init()  # or only some of the formats are known
    return Image


def read_image(recipe: ImageRecipe, cell: Any, folder: Path) -> np.ndarray:
    """An image: the first frame, turned as its EXIF says, transparency on white, made to fit.

    Returns:
        `(channels, height, width)` uint8.

    Raises:
        Unreadable: it is none.
    """
    library = pillow()
    size = (recipe.width, recipe.height)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with library.open(file_of(cell, folder), formats=FORMATS) as image:
                if image.width * image.height > PIXELS:
                    raise Unreadable("more pixels than can be trusted")
                # A JPEG is unpacked at the smallest of its sizes that is large enough.
                image.draft("RGB", (2 * max(size), 2 * max(size)))
                pixels = _plain(library, _reduced(image, size), recipe.channels)
            made = pixels.resize(size, library.Resampling.BILINEAR, reducing_gap=2.0)
        except Unreadable:
            raise
        except library.DecompressionBombError:
            raise Unreadable("more pixels than can be trusted") from None
        except library.UnidentifiedImageError:
            raise Unreadable("not an image") from None
        except MemoryError:
            raise Unreadable("too large for the memory") from None
        except Exception as error:  # decoders raise nearly anything on broken bytes
            cut = "truncated" in str(error) or isinstance(error, EOFError)
            raise Unreadable("a truncated image" if cut else "a broken image") from None
    found = np.asarray(made, np.uint8)
    return found[None] if recipe.channels == 1 else found.transpose(2, 0, 1)


def _reduced(image: Any, size: tuple[int, int]) -> Any:
    """An image, loaded; a large one by whole pixels smaller, but four times as large as wanted."""
    image.load()
    factor = min(image.width // (4 * size[0]), image.height // (4 * size[1]))
    if image.width * image.height < LARGE or factor < 2:
        return image
    info = dict(image.info)
    if image.mode in ("1", "P", "PA"):  # whose numbers are no colours
        image = image.convert("RGBA" if image.mode != "1" else "L")
        info.pop("transparency", None)
    if image.mode == "I;16" or image.mode.startswith("I;16"):
        image = image.convert("I")
    exif = image.getexif()
    image = image.reduce(factor)
    image.info |= info
    image.getexif().load(exif.tobytes())
    return image


def _plain(library: Any, image: Any, channels: int) -> Any:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "LAB":  # has a way to RGB alone
        image = image.convert("RGB")
    if image.mode.startswith(("I", "F")):  # beyond 8 bits: a plain conversion would only clip
        values = np.array(image, np.float64)
        np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
        top = values.max(initial=0.0)
        most = 1.0 if top <= 1 else 255.0 if top <= 255 and image.mode[0] == "F" else 65535.0
        grey = np.clip(values * (255.0 / most), 0, 255).astype(np.uint8)
        return library.fromarray(grey).convert(mode)
    if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        clear = image.convert("RGBA")
        white = library.new("RGBA", clear.size, (255, 255, 255, 255))
        image = library.alpha_composite(white, clear)
    return image.convert(mode)


def probe_image(cell: Any, folder: Path) -> tuple[int, int, bool]:
    """Width, height, and whether it is grey; from the header.

    Raises:
        Unreadable: it is no image.
    """
    library = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with library.open(file_of(cell, folder), formats=FORMATS) as image:
                grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                width, height = image.size
        except Unreadable:
            raise
        except Exception:  # decoders raise nearly anything on broken bytes
            raise Unreadable("not an image") from None
    return (height, width, grey) if turned else (width, height, grey)


def fit_image(
    name: str, column: str, cells: Sequence[Any], folder: Path, side: int | None = None
) -> ImageRecipe:
    """A recipe for images like these.

    Small ones of one size keep it, up to a multiple of four; others become squares of the largest
    of `SIDES` that their shorter side has at the median. Grey where all are.

    Args:
        name: the modality's.
        column: the table's.
        cells: of training rows, not empty.
        folder: what paths are relative to.
        side: of the squares, in place of the rule.

    Raises:
        Unreadable: none of them is an image.
    """
    found = []
    for cell in cells:
        try:
            found.append(probe_image(cell, folder))
        except Unreadable:
            continue
    if not found:
        raise Unreadable("no training row has an image that can be read")
    sizes = {(w, h) for w, h, _ in found}
    if side is not None:
        width = height = side
    elif len(sizes) == 1 and max(max(sizes)) <= LARGEST_KEPT:
        width, height = (max(8, -(-s // 4) * 4) for s in next(iter(sizes)))
    else:
        shorter = float(np.median([min(w, h) for w, h, _ in found]))
        width = height = max([s for s in SIDES if s <= shorter], default=SIDES[0])
    channels = 1 if all(grey for _, _, grey in found) else 3
    return ImageRecipe(name=name, column=column, channels=channels, height=height, width=width)
