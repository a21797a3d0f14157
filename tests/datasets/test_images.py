import numpy as np
import pytest
from PIL import Image

from seg_jax.datasets.images import IMAGE_SUFFIXES, read_image, read_mask
from seg_jax.errors import InputError

ORIENTATION = 0x0112
RAMP = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)
LABELS = (RAMP % 5).astype(np.uint8)


def _palette(values, colours):
    image = Image.fromarray(values, "L").convert("P")
    image.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return image


def _save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def _black_and_white(values, white):
    colours = np.zeros((2, 3), np.uint8)
    colours[white] = 255
    return _palette(values, colours)


def _luma(rgb):
    return np.round(rgb @ np.array([0.299, 0.587, 0.114])).astype(int)


def _turned(path, values, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return _save(path, values, exif=exif)


class TestReadImage:
    @pytest.mark.parametrize("suffix", [s for s in IMAGE_SUFFIXES if s not in (".jpg", ".jpeg")])
    def test_lossless_formats_give_the_pixels(self, tmp_path, suffix):
        options = {"lossless": True} if suffix == ".webp" else {}
        path = _save(tmp_path / f"a{suffix.upper()}", COLOURS, **options)
        image = read_image(path)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, COLOURS)

    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
    def test_jpeg_is_near(self, tmp_path, suffix):
        smooth = np.broadcast_to(np.uint8([200, 100, 50]), (12, 20, 3))
        image = read_image(_save(tmp_path / f"a{suffix}", smooth, quality=95))
        assert np.abs(image.astype(int) - smooth).max() <= 3

    def test_greyscale_and_colour_are_converted(self, tmp_path):
        grey, colour = _save(tmp_path / "g.png", RAMP), _save(tmp_path / "c.png", COLOURS)
        np.testing.assert_array_equal(read_image(grey), np.stack([RAMP] * 3, -1))
        np.testing.assert_array_equal(read_image(grey, 1), RAMP[..., None])
        assert read_image(colour, 1).shape == (12, 20, 1)
        assert np.abs(read_image(colour, 1)[..., 0] - _luma(COLOURS)).max() <= 1

    @pytest.mark.parametrize("channels", [1, 3])
    def test_alpha_is_dropped(self, tmp_path, channels):
        alpha = Image.fromarray(RAMP)
        plain = Image.fromarray(COLOURS)
        seen = plain.copy()
        seen.putalpha(alpha)
        paths = _save(tmp_path / "a.png", plain), _save(tmp_path / "b.png", seen)
        np.testing.assert_array_equal(*(read_image(path, channels) for path in paths))
        grey = _save(tmp_path / "c.png", Image.merge("LA", (Image.fromarray(RAMP), alpha)))
        np.testing.assert_array_equal(read_image(grey, channels)[..., 0], RAMP)

    @pytest.mark.parametrize("transparency", [None, 2, bytes([0, 99, 255, 255, 255])])
    def test_palette_is_looked_up(self, tmp_path, transparency):
        colours = np.uint8([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 8, 7], [1, 2, 3]])
        options = {} if transparency is None else {"transparency": transparency}
        path = _save(tmp_path / "a.png", _palette(LABELS, colours), **options)
        np.testing.assert_array_equal(read_image(path), colours[LABELS])

    def test_one_bit_is_black_and_white(self, tmp_path):
        path = _save(tmp_path / "a.bmp", RAMP > 99)
        np.testing.assert_array_equal(read_image(path, 1)[..., 0], np.where(RAMP > 99, 255, 0))

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_are_scaled_from_the_full_range(self, tmp_path, suffix):
        deep = np.linspace(0, 65535, 240).astype(np.uint16).reshape(12, 20)
        image = read_image(_save(tmp_path / f"a{suffix}", deep))
        np.testing.assert_array_equal(image[..., 1], np.round(deep / 257))
        assert image.min() == 0
        assert image.max() == 255

    @pytest.mark.parametrize("dtype", [np.int32, np.float32])
    def test_deeper_images_are_refused(self, tmp_path, dtype):
        path = _save(tmp_path / "a.tif", RAMP.astype(dtype))
        with pytest.raises(InputError, match=r"a\.tif: has 32 bits a pixel; save it with 8 or 16"):
            read_image(path)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_other_colour_spaces(self, tmp_path, channels):
        mid_grey = Image.new("LAB", (4, 4), (128, 128, 128))
        image = read_image(_save(tmp_path / "a.tif", mid_grey), channels)
        assert image.shape == (4, 4, channels)
        assert np.abs(image.astype(int) - 119).max() <= 3

    def test_the_array_can_be_written_to(self, tmp_path):
        image = read_image(_save(tmp_path / "a.png", COLOURS))
        image[0, 0] = 1
        assert (image[0, 0] == 1).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(3, np.rot90(RAMP, 2)), (6, np.rot90(RAMP, -1)), (8, np.rot90(RAMP)), (2, RAMP[:, ::-1])],
)
def test_exif_orientation_turns_image_and_mask_alike(tmp_path, suffix, orientation, upright):
    path = _turned(tmp_path / f"a{suffix}", RAMP, orientation)
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], upright)
    np.testing.assert_array_equal(read_mask(path), upright)


class TestReadMask:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
    def test_formats_give_the_labels(self, tmp_path, suffix):
        options = {"lossless": True} if suffix == ".webp" else {}
        mask = read_mask(_save(tmp_path / f"a{suffix}", LABELS, **options))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, LABELS)

    def test_palette_gives_indices(self, tmp_path):
        colours = [[255, 0, 0], [255, 255, 255], [0, 0, 0], [9, 8, 7], [1, 2, 3]]
        path = _save(tmp_path / "a.png", _palette(LABELS, colours))
        np.testing.assert_array_equal(read_mask(path), LABELS)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    @pytest.mark.parametrize("white", [0, 1])
    def test_black_and_white_palette_is_one_bit(self, tmp_path, suffix, white):
        path = _save(tmp_path / f"a{suffix}", _black_and_white(LABELS % 2, white))
        mask = read_mask(path)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.where(LABELS % 2, white, 1 - white))

    def test_bmp_of_eight_bits_and_two_colours(self, tmp_path):
        inverted = _save(tmp_path / "inverted.bmp", _black_and_white(LABELS % 2, 0))
        np.testing.assert_array_equal(read_mask(inverted), LABELS % 2 == 0)
        path = _save(tmp_path / "a.bmp", _black_and_white(LABELS % 2, 1))
        with pytest.raises(InputError, match=r"a\.bmp: a BMP of 8 bits a pixel but two colours"):
            read_mask(path)

    @pytest.mark.parametrize("width", [1, 4, 5, 31, 32, 33])
    def test_bmp_of_one_bit_is_read_at_any_width(self, tmp_path, width):
        values = np.arange(2 * width).reshape(2, width) % 3 == 0
        np.testing.assert_array_equal(read_mask(_save(tmp_path / "a.bmp", values)), values)

    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_one_bit_gives_zero_and_one(self, tmp_path, suffix):
        mask = read_mask(_save(tmp_path / f"a{suffix}", LABELS > 2))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, LABELS > 2)

    @pytest.mark.parametrize("bands", ["LA", "RGB", "RGBA"])
    def test_equal_channels_give_one_and_alpha_is_ignored(self, tmp_path, bands):
        band = {True: Image.fromarray(LABELS), False: Image.fromarray(RAMP)}
        image = Image.merge(bands, [band[name != "A"] for name in bands])
        np.testing.assert_array_equal(read_mask(_save(tmp_path / "a.png", image)), LABELS)

    @pytest.mark.parametrize("image", [COLOURS, Image.new("CMYK", (4, 4))])
    def test_colours_are_refused(self, tmp_path, image):
        path = _save(tmp_path / "a.tif", image)
        with pytest.raises(InputError, match=r"a\.tif: colour-coded masks aren't labels; save one"):
            read_mask(path)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_are_kept(self, tmp_path, suffix):
        deep = LABELS.astype(np.uint16) * 1000
        mask = read_mask(_save(tmp_path / f"a{suffix}", deep))
        assert mask.dtype in (np.uint16, np.int32)
        np.testing.assert_array_equal(mask, deep)

    def test_big_endian_comes_in_native_order(self, tmp_path):
        image = Image.frombytes("I;16B", (20, 12), (LABELS * 300.0).astype(">u2").tobytes())
        mask = read_mask(_save(tmp_path / "a.tif", image))
        assert mask.dtype == np.uint16
        assert mask.dtype.isnative
        np.testing.assert_array_equal(mask, LABELS.astype(int) * 300)

    def test_thirty_two_bits_are_kept(self, tmp_path):
        deep = LABELS.astype(np.int32) * 100_000 - 1
        np.testing.assert_array_equal(read_mask(_save(tmp_path / "a.tif", deep)), deep)

    def test_floating_point_is_refused(self, tmp_path):
        path = _save(tmp_path / "a.tif", LABELS.astype(np.float32))
        with pytest.raises(InputError, match=r"a\.tif: floating-point values aren't labels"):
            read_mask(path)


@pytest.mark.parametrize("read", [read_image, read_mask])
class TestBrokenFiles:
    @pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
    def test_truncated(self, tmp_path, read, suffix):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        path = _save(tmp_path / f"a{suffix}", noise)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=rf"a\{suffix}: (truncated or broken|not an image)"):
            read(path)

    @pytest.mark.parametrize("data", [b"", b"<html>404</html>"])
    def test_not_an_image(self, tmp_path, read, data):
        path = tmp_path / "a.png"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.png: not an image; replace or remove it"):
            read(path)

    def test_missing(self, tmp_path, read):
        with pytest.raises(InputError, match=r"a\.png: no such file"):
            read(tmp_path / "a.png")

    def test_several_pages(self, tmp_path, read):
        page = Image.fromarray(RAMP)
        path = _save(tmp_path / "a.tif", page, save_all=True, append_images=[page, page])
        with pytest.raises(InputError, match=r"a\.tif: has 3 pages; save each as a file"):
            read(path)
