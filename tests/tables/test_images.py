from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polymix.tables.images import fit_image, read_image
from polymix.tables.recipe import ImageRecipe
from polymix.tables.unreadable import Unreadable
from table_files import png_header

COLOUR = ImageRecipe(name="i", column="i", channels=3, height=8, width=8)
GREY = ImageRecipe(name="i", column="i", channels=1, height=8, width=8)


def test_exif_turns(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255  # the left half is white
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    found = read_image(COLOUR, "a.png", tmp_path)
    assert found[:, :4].min() == 255
    assert found[:, 4:].max() == 0


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "a.png")
    assert read_image(COLOUR, "a.png", tmp_path).min() == 255
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(COLOUR, "p.png", tmp_path).min() == 255
    Image.new("LA", (8, 8), (0, 255)).save(tmp_path / "la.png")
    assert read_image(GREY, "la.png", tmp_path).max() == 0


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    found = read_image(GREY, "a.png", tmp_path)[0].reshape(-1).astype(int)
    assert found[0] == 0
    assert found[-1] == 255
    assert (np.diff(found) > 0).all()
    Image.fromarray(ramp.astype(np.float32) / 65535).save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(GREY, "a.tif", tmp_path)[0].reshape(-1), found, atol=1)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (255, 255, 255))
    black.save(tmp_path / "a.gif", save_all=True, append_images=[white])
    assert read_image(COLOUR, "a.gif", tmp_path).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "RGBX", "I", "F"])
def test_any_mode(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 30), (90, 90, 90)).convert(mode)
    image.save(tmp_path / "a.tif")
    for recipe in (COLOUR, GREY):
        found = read_image(recipe, "a.tif", tmp_path)
        assert found.shape == recipe.modality.shape
        assert found.dtype == np.uint8


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "RGBX", "I", "F", "I;16", "LA", "RGBA"]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_large_one_is_made_smaller_first(
    mode: str, turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.linspace(0, 255, 240).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (200, 1)), np.full((200, 240), 60), np.tile(ramp, (200, 1))])
    image = Image.fromarray(picture.transpose(1, 2, 0).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(np.tile(ramp, (200, 1))))
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    path = tmp_path / ("a.png" if mode in ("P", "LA", "RGBA") else "a.tif")
    image.save(path, exif=exif) if turned else image.save(path)
    for recipe in (COLOUR, GREY):
        whole = read_image(recipe, path.name, tmp_path).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr("polymix.tables.images.LARGE", 1000)
            smaller = read_image(recipe, path.name, tmp_path).astype(int)
        assert np.abs(whole - smaller).max() <= (30 if mode == "1" else 3)


def test_a_large_palette_with_a_clear_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    palette = Image.new("P", (240, 200), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "p.png", transparency=0)
    monkeypatch.setattr("polymix.tables.images.LARGE", 1000)
    assert read_image(COLOUR, "p.png", tmp_path).min() == 255


def test_what_is_no_image(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) - 40])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "bomb.png").write_bytes(png_header(100_000, 100_000))
    (tmp_path / "large.png").write_bytes(png_header(9_000, 9_000))
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(tmp_path / "pipe.jpg")
    causes = {
        "cut.jpg": "a truncated image", "text.jpg": "not an image", "empty.jpg": "an empty file",
        "bomb.png": "more pixels than can be trusted", "script.eps": "not an image",
        "large.png": "more pixels than can be trusted", "pipe.jpg": "no plain file",
        ".": "a folder, not a file", "none.jpg": "no such file", "a\0b.jpg": "a path",
        "http://x/y.jpg": "an address", "good.jpg/x.jpg": "no such file", "x" * 5000: "a path",
    }  # fmt: skip
    for cell, cause in causes.items():
        with pytest.raises(Unreadable, match=cause):
            read_image(COLOUR, cell, tmp_path)
    for cell in (3.5, True, ["good.jpg"]):
        with pytest.raises(Unreadable, match="no path"):
            read_image(COLOUR, cell, tmp_path)


def test_the_size_is_chosen_from_the_files(tmp_path: Path) -> None:
    def recipe(*sizes: tuple[int, int], mode: str = "RGB") -> tuple[int, int, int]:
        names = []
        for i, size in enumerate(sizes):
            names.append(f"{i}.png")
            Image.new(mode, size).save(tmp_path / names[-1])
        found = fit_image("i", "i", [*names, "none.png"], tmp_path)
        return found.channels, found.height, found.width

    assert recipe((28, 28), (28, 28), mode="L") == (1, 28, 28)
    assert recipe((45, 30)) == (3, 32, 48)
    assert recipe((50, 60), (640, 480), (52, 90)) == (3, 48, 48)
    assert recipe((640, 480), (800, 600)) == (3, 64, 64)
    assert recipe((9, 20), (12, 14)) == (3, 32, 32)
    with pytest.raises(Unreadable):
        fit_image("i", "i", ["none.png"], tmp_path)
