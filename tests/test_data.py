"Edge cases of embcam.images: a corpus of odd and bad inputs that grows with each report, a line each; folders as people have them; bits."
import io
import os
import struct
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tifffile import TiffWriter, imwrite

from embcam import Backbone, EmbeddingClassifier, load_folder
from embcam.files import install_command
from embcam.images import ImageError, ImageSet, list_images, open_image, open_mask
from embcam.images.folders import image_files
from embcam.images.pixels import _turned, bits_in_use, is_wide, pixel_hashes, shown_size, tell_again
from embcam.images.sets import group_copies

GREY = (np.arange(24*36).reshape(24, 36)*4095//(24*36 - 1)).astype(np.uint16)  # 12 bits
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
SEEN = np.round(GREY/(4095/255)).astype(np.uint8)
SEEN_COLOUR = np.round(COLOUR/(4095/255)).astype(np.uint8)


def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values, kind):
    "A PNG of 16 bits, which Pillow cannot write in colour; kind 2: RGB, 4: grey and alpha, 6: RGBA."
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, **options):
    buffer = io.BytesIO()
    imwrite(buffer, values, **options)
    return buffer.getvalue()


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def packed_tiff(values):
    "12 bits without gaps, as line-scan cameras write them."
    first, second = values.ravel()[::2], values.ravel()[1::2]
    data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    tags = {256: values.shape[1], 257: values.shape[0], 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: values.shape[0], 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def netpbm(kind, values, white): return f"{kind} {values.shape[1]} {values.shape[0]} {white}\n".encode() + values.astype(">u2").tobytes()


opaque = np.full_like(GREY, 65535)
unfilled = Image.fromarray(np.dstack([SEEN_COLOUR, np.zeros_like(SEEN)]).astype(np.uint8), "RGBA")
ODD = {  # what people's cameras write -> what a person sees
    "TIFF, 12 bits in 16": (tiff(GREY), SEEN),
    "TIFF, big endian": (tiff(GREY, byteorder=">"), SEEN),
    "TIFF, zero is white": (tiff(GREY, photometric="miniswhite"), 255 - SEEN),
    "TIFF, zero is white, big endian": (tiff(GREY, photometric="miniswhite", byteorder=">"), 255 - SEEN),
    "TIFF, zero is white, 8 bits": (tiff(SEEN, photometric="miniswhite"), 255 - SEEN),
    "TIFF, zero is white, floats": (tiff(np.float32(GREY/4095), photometric="miniswhite"), 255 - SEEN),
    "TIFF, signed": (tiff(GREY.astype(np.int16)), SEEN),
    "TIFF, signed, big endian": (tiff(GREY.astype(np.int16), byteorder=">"), SEEN),
    "TIFF, 32 bits": (tiff(GREY.astype(np.uint32)), SEEN),
    "TIFF, 32 bits, big endian": (tiff(GREY.astype(np.uint32), byteorder=">"), SEEN),
    "TIFF, 64 bits": (tiff(GREY.astype(np.int64)), SEEN),
    "TIFF, floats up to 1": (tiff(np.float32(GREY/4095)), SEEN),
    "TIFF, floats up to 255": (tiff(np.float32(SEEN)), SEEN),
    "TIFF, floats up to 4095": (tiff(np.float32(GREY)), SEEN),
    "TIFF, 64-bit floats": (tiff(GREY/4095), SEEN),
    "TIFF, half floats": (tiff(np.float16(SEEN/255)), SEEN),
    "TIFF, floats in colour": (tiff(np.float32(COLOUR/4095), photometric="rgb"), SEEN_COLOUR),
    "TIFF, colour": (tiff(COLOUR, photometric="rgb"), SEEN_COLOUR),
    "TIFF, colour, big endian": (tiff(COLOUR, photometric="rgb", byteorder=">"), SEEN_COLOUR),
    "TIFF, colour, plane by plane": (tiff(COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), SEEN_COLOUR),
    "TIFF, colour, deflate": (tiff(COLOUR, photometric="rgb", compression="zlib", predictor=True), SEEN_COLOUR),
    "TIFF, colour and alpha": (tiff(np.dstack([COLOUR, opaque]), photometric="rgb", extrasamples=["unassalpha"]), SEEN_COLOUR),
    "TIFF, near infrared": (tiff(np.dstack([COLOUR, GREY//9]), photometric="rgb", extrasamples=["unspecified"]), SEEN_COLOUR),
    "TIFF, four bands, plane by plane": (tiff(np.dstack([COLOUR, GREY//9]).transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
                                              extrasamples=["unspecified"]), SEEN_COLOUR),
    "TIFF, five bands": (tiff(np.dstack([COLOUR, GREY, GREY]), photometric="rgb"), SEEN_COLOUR),
    "TIFF, 8 bits, a fourth band": (tiff(np.dstack([SEEN_COLOUR, SEEN//9]), photometric="rgb", extrasamples=["unspecified"]), SEEN_COLOUR),
    "BMP, 8 bits, alpha that nobody filled": (saved(unfilled, "BMP"), SEEN_COLOUR),
    "TGA, 8 bits, alpha that nobody filled": (saved(unfilled, "TGA"), SEEN_COLOUR),
    "TIFF, deflate": (tiff(GREY, compression="zlib", predictor=True), SEEN),
    "TIFF, LZW": (saved(Image.fromarray(GREY), "TIFF", compression="tiff_lzw"), SEEN),
    "TIFF, packbits": (saved(Image.fromarray(GREY), "TIFF", compression="packbits"), SEEN),
    "TIFF, tiles": (tiff(GREY, tile=(16, 16)), SEEN),
    "TIFF, pages": (tiff(np.stack([GREY, GREY[::-1]])), SEEN),
    "TIFF, ImageJ's": (tiff(np.stack([GREY, GREY[::-1]]), imagej=True), SEEN),
    "TIFF, BigTIFF": (tiff(GREY, bigtiff=True), SEEN),
    "TIFF, 12 bits packed": (packed_tiff(GREY), SEEN),
    "TIFF, lying on its side": (tiff(np.rot90(COLOUR), photometric="rgb", extratags=[(274, "H", 1, 6, True)]), SEEN_COLOUR),
    "PNG": (saved(Image.fromarray(GREY), "PNG"), SEEN),
    "PNG, colour": (png16(COLOUR, 2), SEEN_COLOUR),
    "PNG, colour and alpha": (png16(np.dstack([COLOUR, opaque]), 6), SEEN_COLOUR),
    "PNG, grey and alpha": (png16(np.dstack([GREY, opaque]), 4), SEEN),
    "PNG, on its side": (saved(Image.fromarray(np.ascontiguousarray(np.rot90(GREY))), "PNG",
                               exif=b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"), SEEN),
    "JPEG 2000": (saved(Image.fromarray(GREY), "JPEG2000"), SEEN),
    "PGM, white is 4095": (netpbm("P5", GREY, 4095), SEEN),
    "PGM, white is 65535": (netpbm("P5", GREY, 65535), SEEN),
    "PPM, white is 4095": (netpbm("P6", COLOUR, 4095), SEEN_COLOUR),
    "PPM, white is 65535": (netpbm("P6", COLOUR, 65535), SEEN_COLOUR),
    "array, int32": (GREY.astype(np.int32), SEEN),
    "array, floats up to 1": (GREY/4095, SEEN),
    "array, floats a hair above 1": (GREY/4095*(1 + 1e-7), SEEN),
    "array, floats up to 255": (SEEN.astype(float), SEEN),
    "array, floats from 87 to 143": (np.clip(SEEN.astype(float), 87, 143), np.clip(SEEN, 87, 143)),
    "array, half floats": (np.float16(SEEN/255), SEEN),
    "array, bytes in int64": (SEEN.astype(np.int64), SEEN),
    "array, bytes in uint16": (SEEN.astype(np.uint16), SEEN),
    "array, one channel": (GREY[..., None], SEEN),
    "array, big endian": (GREY.astype(">u2"), SEEN),
    "array, booleans": (GREY > 2000, np.where(GREY > 2000, 255, 0)),
    "array, colour and alpha of 16 bits": (np.dstack([COLOUR, opaque]), SEEN_COLOUR),
    "array, colour and alpha of 12 bits": (np.dstack([COLOUR, np.full_like(GREY, 4095)]), None),
    "Pillow, 16 bits": (Image.fromarray(GREY), SEEN),
    "Pillow, 32 bits": (Image.fromarray(GREY.astype(np.int32)), SEEN)}


@pytest.mark.parametrize("name", ODD)
def test_odd_images_look_as_in_a_viewer(name):
    source, seen = ODD[name]
    found = open_image(source)
    assert found.dtype == np.uint8 and found.shape == (24, 36, 3)
    if seen is None: return
    assert np.abs(found.astype(int) - (seen if seen.ndim == 3 else seen[..., None])).max() <= 1
    if "8 bits" not in name and "up to 1" not in name and bits_in_use([source]) == 12:  # the same when it is said
        assert np.array_equal(open_image(source, bits=12), found)


def test_alpha_of_known_bits():
    see_through = np.dstack([COLOUR, np.full_like(GREY, 4095)])
    assert np.array_equal(open_image(see_through, bits=12), SEEN_COLOUR)


nan = np.full((4, 4), np.nan)
noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
jpeg, waves = saved(noise, "JPEG", quality=90), saved(noise, "JPEG", quality=90, progressive=True)
BAD = {  # what is no image -> what the error says
    "negative": (np.array([[-1, 5]]), "go from -1 to 5, and no image has any below zero. Add one offset"),
    "negative floats": (np.array([[-.5, .5]]), "from -0.5 to 0.5, and no image"),
    "negative TIFF": (tiff((GREY.astype(int) - 9).astype(np.int16)), "from -9 to 4086"),
    "negative TIFF, 8 bits": (tiff((SEEN.astype(int) - 128).astype(np.int8)), "from -128 to 127"),
    "17 bits": (np.array([[0, 65536]]), "from 0 to 65536, more than 16 bits. Divide all images by one number"),
    "17 bits, floats": (np.array([[0., 1e6]]), "from 0 to 1e+06, more than 16 bits"),
    "32-bit TIFF": (tiff(np.full((4, 4), 3_000_000_000, np.uint32)), "from 3e+09 to 3e+09, more than 16 bits"),
    "NaN": (nan, "NaN or infinite"),
    "infinite": (np.full((4, 4), np.inf), "NaN or infinite"),
    "complex": (np.zeros((4, 4), complex), "complex128 is no image"),
    "text": (np.array([["a"]]), "is no image"),
    "empty array": (np.zeros((0, 4)), "no pixels"),
    "channels first": (np.zeros((3, 24, 36)), "transpose(1, 2, 0)"),
    "five channels": (np.zeros((24, 36, 5)), "is not (h, w)"),
    "a batch": (np.zeros((2, 24, 36, 3)), "is not (h, w)"),
    "empty file": (b"", "empty"),
    "letter": (b"Dear Sir or Madam", "no image"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), install_command("heic") if not find_spec("pillow_heif") else "HEI"),
    "cut PNG, 16 bits in colour": (png16(COLOUR, 2)[:-400], ""),
    "bands of no said colour": (tiff(np.dstack([COLOUR, GREY]), photometric="minisblack", planarconfig="contig"),
                                "its 4 bands are not said to be colours. Choose those to be seen"),
    "JPEG, second half zeros": (jpeg[:len(jpeg)//2] + bytes(len(jpeg) - len(jpeg)//2), "the end of the picture is lost"),
    "JPEG, a sector of zeros": (jpeg[:9000] + bytes(1024) + jpeg[10024:], "a part of the picture is lost"),
    "progressive JPEG, second half zeros": (waves[:len(waves)//2] + bytes(len(waves) - len(waves)//2), "the end of the picture is lost"),
    "cut TIFF": (tiff(GREY)[:200], ""),
    "TIFF without pages": (b"II*\0\x08\0\0\0", "no image"),
    "None": (None, "no image")}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_one_error(name, capfd):
    source, says = BAD[name]
    with warnings.catch_warnings(), pytest.raises(ImageError) as caught:
        warnings.simplefilter("ignore")
        open_image(source)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert "tifffile" not in capfd.readouterr().err


@pytest.mark.parametrize("options", [{}, dict(optimize=True), dict(progressive=True), dict(quality=20, optimize=True)], ids=str)
def test_a_flat_jpeg_has_lost_nothing(options):
    for im in Image.new("L", (2000, 2000), "white"), Image.new("RGB", (2000, 2000)):
        data = saved(im, "JPEG", **options)
        assert np.ptp(open_image(data)) == 0 and np.ptp(open_image(data + bytes(4096))) == 0


def icc_profile(gamma, primaries):
    "A display profile: XYZ of red, green and blue, (3, 3), and one gamma."
    def fixed(values): return b"".join(round(v*65536).to_bytes(4, "big", signed=True) for v in values)
    def xyz(values): return b"XYZ \0\0\0\0" + fixed(values)
    curve = b"curv\0\0\0\0\0\0\0\x01" + round(gamma*256).to_bytes(2, "big") + b"\0\0"
    name = b"desc\0\0\0\0\0\0\0\x05wide\0" + bytes(83)
    tags = {b"desc": name, b"wtpt": xyz((.9642, 1, .8249)), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {letter + b"XYZ": xyz(column) for letter, column in zip((b"r", b"g", b"b"), primaries)}
    at, table, body = 128 + 4 + 12*len(tags), len(tags).to_bytes(4, "big"), b""
    for tag, data in tags.items():
        table += tag + (at + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data + bytes(-len(data) % 4)
    head = (at + len(body)).to_bytes(4, "big") + bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return (head + fixed((.9642, 1, .8249))).ljust(128, b"\0") + table + body


ADOBE = icc_profile(2.199, [(.60974, .31111, .01947), (.20528, .62567, .06087), (.14919, .06322, .74457)])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_of_another_profile_are_shown_as_srgb(kind):
    grey, green = (120, 120, 120), (0, 200, 0)
    lossless = dict(lossless=True) if kind == "WEBP" else {}
    colours = [Image.new("RGB", (8, 8), colour) for colour in (grey, green, (90, 140, 90))]
    adobe = np.array([open_image(saved(im, kind, icc_profile=ADOBE, **lossless))[4, 4] for im in colours], int)
    plain = np.array([open_image(saved(im, kind, **lossless))[4, 4] for im in colours], int)
    assert np.ptp(adobe[0]) <= 1 and abs(adobe[0, 0] - 120) <= 2  # grey stays grey
    assert (adobe[2] - plain[2])[0] < -20 and (adobe[2] - plain[2])[2] < 0  # less red and blue: a purer green than sRGB's
    assert plain.tolist() == [[120]*3, [0, 200, 0], [90, 140, 90]]
    see_through = Image.new("RGBA", (8, 8), (90, 140, 90, 255))
    if kind == "PNG": assert np.abs(open_image(saved(see_through, kind, icc_profile=ADOBE))[4, 4] - adobe[2]).max() <= 1
    broken = saved(Image.new("RGB", (8, 8), green), kind, icc_profile=b"no profile"*20, **lossless)
    assert open_image(broken)[4, 4].tolist() == [0, 200, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_pillow_s(orientation):
    im = Image.fromarray(SEEN_COLOUR)
    im.getexif()[274] = orientation
    assert np.array_equal(_turned(SEEN_COLOUR, orientation), np.asarray(ImageOps.exif_transpose(im)))


# several pages or frames

def pages(*arrays, **options):
    "A TIFF file of several pages; (array, {option: value}) for one of its own."
    buffer = io.BytesIO()
    with TiffWriter(buffer) as writer:
        for array in arrays:
            array, more = array if isinstance(array, tuple) else (array, {})
            kind = dict(photometric="rgb" if array.ndim == 3 else "minisblack", metadata=None)
            writer.write(array, **kind | options | more)
    return buffer.getvalue()


def film(kind, *arrays, **options):
    first, *rest = [Image.fromarray(array) for array in arrays]
    return saved(first, kind, save_all=True, append_images=rest, **options)


_KIND = b"\xfe\0\x04\0\x01\0\0\0"  # the entry NewSubfileType, before its value
LITTLE, DARK, COPY = SEEN[::4, ::4], SEEN//3, dict(subfiletype=1)
SEVERAL = {  # file, what is seen, whether something is said
    "pages of one size": (pages(SEEN, DARK), SEEN, True),
    "pages of two lengths": (pages(SEEN[:20], SEEN), SEEN, True),
    "thumbnail first": (pages(LITTLE, SEEN), SEEN, False),
    "thumbnail first, declared": (pages((LITTLE, COPY), SEEN), SEEN, False),
    "thumbnail of 8 bits, picture of 12": (pages(LITTLE, GREY), SEEN, False),
    "thumbnail in grey, 16 bits in colour": (pages(LITTLE, COLOUR), SEEN_COLOUR, False),
    "second of two pages, 16 bits in colour, compressed": (pages(COLOUR[:14], COLOUR, compression="zlib"), SEEN_COLOUR, True),
    "picture below its thumbnail": (pages((LITTLE, dict(COPY, subifds=1)), SEEN), SEEN, False),
    "pyramid": (pages(SEEN, (SEEN[::2, ::2], COPY), (LITTLE, COPY)), SEEN, False),
    "pyramid, not declared": (pages(SEEN, SEEN[::2, ::2][:, :12], LITTLE), SEEN, False),
    "picture and mask": (pages(SEEN, (DARK, COPY)).replace(_KIND + b"\x01", _KIND + b"\x04"), SEEN, False),
    "floats in colour, two pages": (pages(LITTLE/255., SEEN_COLOUR/255.), SEEN_COLOUR, False),
    "doubles after a thumbnail": (pages((LITTLE/255.), (SEEN/255.)), SEEN, False),
    "one page": (pages(SEEN), SEEN, False),
    "GIF": (film("GIF", SEEN, DARK, LITTLE), SEEN, True),
    "APNG": (film("PNG", SEEN_COLOUR, SEEN_COLOUR//2), SEEN_COLOUR, True),
    "WEBP": (film("WEBP", SEEN_COLOUR, SEEN_COLOUR//2, lossless=True), SEEN_COLOUR, True),
    "MPO": (film("MPO", SEEN, DARK, quality=100), SEEN, False),
    "an index that is cut": (pages(SEEN, DARK)[:1150], SEEN, True)}


@pytest.mark.parametrize("name", SEVERAL)
def test_files_of_several_pages(name, tmp_path):
    source, seen, said = SEVERAL[name]
    (tmp_path/"a").write_bytes(source)
    tell_again()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for one in tmp_path/"a", source: found = open_image(one)
    assert sum(str(one.message).startswith(f"{tmp_path}/a holds ") for one in told) == said
    seen = seen if seen.ndim == 3 else np.repeat(seen[..., None], 3, 2)
    assert found.shape == seen.shape and abs(found.astype(int) - seen).max() <= (3 if name == "MPO" else 1)
    assert shown_size(tmp_path/"a") == (36, 24) and group_copies([tmp_path/"a", found]) == [[0, 1]]
    assert bits_in_use([source]) == (12 if "1" in name else 8)


def test_a_frame_that_a_caller_chose_is_the_one(tmp_path):
    for source, second in (pages(SEEN, DARK), DARK), (pages(COLOUR, COLOUR//2), SEEN_COLOUR//2), (film("GIF", SEEN, DARK), DARK):
        (tmp_path/"a").write_bytes(source)
        with Image.open(tmp_path/"a") as im:
            im.seek(1)
            assert abs(open_image(im).astype(int) - (second if second.ndim == 3 else second[..., None])).max() <= 1


# bits

@pytest.mark.parametrize("bits", [0, 7, 17, 12.5, "12", True])
def test_what_is_no_number_of_bits(bits):
    with pytest.raises(ValueError, match="choose a number from 8 to 16"): open_image(GREY, bits=bits)


@pytest.mark.parametrize("largest, bits", [(1, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14),
                                           (16384, 16), (65535, 16)])
def test_the_ladder(largest, bits):
    for kind in np.uint16, np.float32: assert bits_in_use([kind([[0, 1]]), kind([[0, largest]])]) == bits


def test_no_image_is_stretched_by_itself(tmp_path):
    for i, share in enumerate((.05, .2, .6, 1)):
        (tmp_path/"a").mkdir(exist_ok=True)
        Image.fromarray(np.uint16(GREY*share)).save(tmp_path/"a"/f"{i}.png")
    images = load_folder(tmp_path)
    brightness = [sample.image.max() for sample in images]
    assert images.bits == images[:1].bits == 12
    assert brightness == [13, 51, 153, 255] and images[:1][0].image.max() == 13  # a subset is read as the whole
    assert [sample.image.max() for sample in load_folder(tmp_path, bits=16)] == [1, 3, 10, 16]
    arrays = ImageSet([np.asarray(Image.open(path)) for path in images.images], ["a"]*4)
    assert [sample.image.max() for sample in arrays] == brightness and arrays.at_bits(16).bits == 16


def test_bytes_do_not_depend_on_bits():
    assert np.array_equal(open_image(SEEN_COLOUR, bits=16), SEEN_COLOUR)
    assert np.array_equal(open_image(SEEN > 9, bits=16), open_image(SEEN > 9))
    assert np.array_equal(open_image(SEEN/255, bits=12), open_image(SEEN/255))  # shares of white


def test_floats_share_one_scale():
    dark, bright = np.array([[0., 1., 1.]]), np.array([[0., 87., 143.]])
    assert bits_in_use([dark, bright]) == 8 and open_image(dark, bits=8).max() == 1
    with pytest.raises(ImageError, match="one scale must serve all"): bits_in_use([np.array([[.5]]), bright])


def test_a_folder_beyond_its_bits(tmp_path):
    (tmp_path/"a").mkdir()
    for i, share in enumerate((.1, 1)): Image.fromarray(np.uint16(GREY*share)).save(tmp_path/"a"/f"{i}.png")
    with pytest.raises(ImageError, match="1.png: its values go from 0 to 4095, beyond the 10 bits, 0 to 1023"):
        load_folder(tmp_path, bits=10)
    images = load_folder(tmp_path, on_error="skip", bits=10)
    assert images.names == ["a/0.png"] and len(images.skipped) == 1 and images.bits == 10


def test_headers_tell_what_is_wide():
    wide = {name: is_wide(source) for name, (source, _) in ODD.items()}
    assert [name for name, found in wide.items() if not found] == [name for name in ODD if "8 bits" in name or name == "array, booleans"]
    assert not is_wide(SEEN) and not is_wide(saved(Image.fromarray(SEEN), "JPEG")) and not is_wide(Image.fromarray(SEEN))


def test_masks_keep_their_rules():
    labels = np.uint16([[0, 1, 2]])
    assert open_mask(labels).tolist() == open_mask(saved(Image.fromarray(labels), "PNG")).tolist() == [[False, True, True]]
    assert open_mask(GREY).sum() == (GREY > 0).sum() and open_mask(np.array([[0., .2, .8]])).tolist() == [[False, False, True]]


@pytest.fixture(scope="module")
def backbone(): return Backbone(size=32)


def deep(n, seed=0, bits=12):
    "Dark and bright images of so many bits."
    rng = np.random.default_rng(seed)
    return [(rng.random((32, 32))*(.3 + .7*(i % 2))*(2**bits - 1)).astype(np.uint16) for i in range(n)]


def test_a_fitted_model_knows_its_bits(tmp_path, backbone):
    images, labels = deep(16), ["dark", "bright"]*8
    clf = EmbeddingClassifier(backbone, n_features="all", progress=False).fit(images, labels)
    assert clf.backbone.bits == 12 and backbone.bits is None
    clf.save(tmp_path/"model")
    for again in (EmbeddingClassifier.load(tmp_path/"model"), EmbeddingClassifier.load(tmp_path/"model", backbone=Backbone(size=32))):
        assert again.backbone.bits == 12 and again.backbone.fingerprint == clf.backbone.fingerprint
        assert again.predict(images).tolist() == labels
        assert [again.predict([image])[0] for image in images] == labels  # alone as among others
        with pytest.raises(ImageError, match="beyond the 12 bits, 0 to 4095"): again.predict([images[1]*4])
        assert np.array_equal(again.backbone.trace(images[0]).image, open_image(images[0], bits=12))
    with pytest.raises(ValueError, match="belongs to a backbone with bits 12, not 16"):
        EmbeddingClassifier.load(tmp_path/"model", backbone=Backbone(size=32, bits=16))


def test_a_second_fit_finds_bits_anew(backbone):
    clf = EmbeddingClassifier(backbone, n_features=2, progress=False)
    assert [clf.fit(deep(8, bits=bits), ["a", "b"]*4).backbone.bits for bits in (12, 16, 10)] == [12, 16, 10]
    given = EmbeddingClassifier(backbone.at_bits(14), n_features=2, progress=False)
    assert given.fit(deep(8), ["a", "b"]*4).backbone.bits == 14


def test_a_model_of_bytes_refuses_what_is_wider(backbone):
    images = [np.asarray(open_image(image)) for image in deep(8)]
    clf = EmbeddingClassifier(backbone, n_features=2, progress=False).fit(images, ["a", "b"]*4)
    assert clf.backbone.fingerprint == backbone.fingerprint
    assert np.array_equal(clf.backbone.embed(images, progress=False), backbone.embed(images, progress=False))
    with pytest.raises(ImageError, match="beyond the 8 bits, 0 to 255"): clf.predict(deep(1))


def test_the_cache_knows_bits(tmp_path):
    for i, image in enumerate(deep(2)): Image.fromarray(image).save(tmp_path/f"{i}.png")
    paths, backbone = sorted(tmp_path.glob("*.png")), Backbone(size=32, cache=tmp_path/"cache")
    twelve, sixteen = (backbone.at_bits(bits).embed(paths, progress=False) for bits in (12, 16))
    assert not np.allclose(twelve, sixteen) and len(backbone.cache) == 4
    with pytest.raises(ImageError): backbone.at_bits(10).embed(paths, progress=False)


# folders

def put(root, *names):
    "Different images under these names."
    rng = np.random.default_rng(len(names))
    for name in names:
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(root/name, "PNG")
    return root


def parts(*names, n=2): return [f"{part}/{c}/{i}.png" for part in names for c in ("bad", "good") for i in range(n)]


@pytest.mark.parametrize("names, sizes", [
    (("train", "val"), (4, 4)), (("train", "test"), (4, 4)), (("TRAIN", "Validation", "Test"), (8, 4)), (("train", "valid"), (4, 4)),
    (("train", "val", "validation", "test"), (12, 4)), (("images/train", "images/test"), (4, 4)), (("Training", "Testing"), (4, 4)),
    (("training_set", "test_set"), (4, 4))])
def test_folders_that_are_split_already(tmp_path, names, sizes):
    images = load_folder(put(tmp_path, *parts(*names)))
    with pytest.warns(UserWarning, match="the folder's own"): fitted, tested = images.split(test_size=.5, seed=3)
    assert (len(fitted), len(tested)) == sizes and images.classes == ["bad", "good"] and len(images) == sum(sizes)
    assert set(tested.parts) == {"test" if "est" in names[-1] else "val"} and images[::-1].parts.tolist() == images.parts.tolist()[::-1]
    assert "split: the folder's own" in repr(images)


@pytest.mark.parametrize("names, says", [
    (["train/bad/1.png", "train/good/1.png", "scratched/1.png"], "Pass {}/train, or move scratched"),
    (["train/bad/1.png", "train/good/1.png", "test/1.png"], "{}/test/<class>/, or pass {}/train"),
    (["train/1.png", "test/1.png"], "{}/train should hold a folder per class"),
    (["val/a/1.png", "test/a/1.png"], "no part called train. Pass {}/val")])
def test_ambiguous_folders_are_refused(tmp_path, names, says):
    with pytest.raises(ValueError) as caught: load_folder(put(tmp_path, *names))
    assert says.replace("{}", str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("names, classes", [
    (["train/1.png", "car/1.png"], ["car", "train"]), (["test/1.png", "good/1.png", "good/2024/2.png"], ["good", "test"]),
    (["train/a/1.png", "train/b/1.png"], ["a", "b"]), (["images/1.png", "x/1.png"], ["images", "x"])])
def test_folders_that_only_look_split(tmp_path, names, classes):
    images = load_folder(put(tmp_path, *names))
    assert images.classes == classes and not images.own_split and len(images) == len(names)


def test_parts_without_all_classes_are_pooled(tmp_path):
    images = load_folder(put(tmp_path, *[f"train/good/{i}.png" for i in range(6)],
                             *[f"test/{c}/{i}.png" for c in ("good", "bent") for i in range(4)],
                             "ground_truth/bent/1_mask.png"))
    with pytest.warns(UserWarning, match="train has no image of bent"): fitted, tested = images.split(seed=0)
    assert fitted.classes == tested.classes == ["bent", "good"] and len(fitted) + len(tested) == 14
    assert [name for name, mask in zip(images.names, images.masks) if mask] == ["test/bent/1.png"]


@pytest.mark.parametrize("layout", ["images/{p}/{c}/1.png masks/{p}/{c}/1.png", "{p}/images/{c}/1.png {p}/masks/{c}/1.png"])
def test_masks_of_parts(tmp_path, layout):
    names = [name.format(p=p, c=c) for name in layout.split() for p in ("train", "test") for c in ("bad", "good")]
    images = load_folder(put(tmp_path, *names))
    assert len(images) == 4 and all(images.masks) and set(images.parts) == {"train", "test"}


def test_copies_across_parts_are_named(tmp_path):
    put(tmp_path, *parts("train", "test"))
    (tmp_path/"test/bad/9.png").write_bytes((tmp_path/"train/bad/0.png").read_bytes())
    assert "1 image(s) of the latter are copies" in load_folder(tmp_path).own_split


def test_nothing_is_lost_in_silence(tmp_path):
    put(tmp_path, "a/1.png", "a/.hidden.png", "a/no_suffix", "a/camera.001", "a/sub/2.PNG", "b/1.png", "loose.png")
    for name in ("a/notes.txt", "a/DSC.CR2", "a/README", "b/more.TXT", "annotations/1.xml"):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text("words")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = load_folder(tmp_path)
    assert sorted(images.names) == ["a/1.png", "a/camera.001", "a/no_suffix", "a/sub/2.PNG", "b/1.png"]
    expected = {".txt": 2, ".cr2": 1, "without a suffix": 1, "hidden": 1, ".png outside the class folders": 1, ".xml": 1}
    assert dict(images.passed_over) == expected and images.ignored == sum(expected.values())
    assert "1 .cr2 (raw: develop them to TIFF or PNG)" in repr(images) and "2 .txt" in repr(images)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_links_are_followed_once(tmp_path):
    put(tmp_path, "root/a/1.png", "root/a/sub/2.png", "root/b/1.png", "elsewhere/3.png", "elsewhere/deep/4.png", "c/5.png")
    for link, target in {"root/a/up": "root", "root/a/self": "root/a", "root/a/more": "elsewhere", "root/a/again": "elsewhere",
                         "elsewhere/back": "elsewhere",
                         "root/c": "c", "root/loop": "root", "root/b/gone": "nowhere"}.items():
        (tmp_path/link).symlink_to(tmp_path/target, target_is_directory=True)
    images = load_folder(tmp_path/"root")
    assert images.classes == ["a", "b", "c"] and len(images) == 6 and sum(images.labels == "a") == 4
    assert images.passed_over["broken link"] == 1 and images.passed_over["linked folder, not followed again"] == 4
    assert len(image_files(tmp_path/"elsewhere")[0]) == 2


def test_telephones(tmp_path):
    put(tmp_path, "a/1.png")
    if not find_spec("pillow_heif"):
        (tmp_path/"a/2.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
        assert f"1 .heic (read after {install_command('heic')})" in repr(load_folder(tmp_path))
        (tmp_path/"a/1.png").unlink()
        with pytest.warns(UserWarning), pytest.raises(ValueError, match="1 .heic"): load_folder(tmp_path)
    else:
        Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path/"a/2.HEIC", "HEIF")
        assert np.abs(load_folder(tmp_path)[1].image.astype(int) - 200).max() < 9


def test_copies_are_found_by_what_is_seen(tmp_path):
    "One picture in lossless formats is one, turned by its EXIF data too; what cannot be read is no copy of anything."
    picture = Image.fromarray(SEEN_COLOUR)
    files = [tmp_path/f"a.{kind}" for kind in ("png", "bmp", "tif", "webp")]
    for file in files: picture.save(file, lossless=True)
    exif = Image.Exif()
    exif[274] = 3
    picture.rotate(180).save(tmp_path/"turned.png", exif=exif)
    picture.rotate(180).save(tmp_path/"other.png")
    for name in ("x", "y"): (tmp_path/f"broken-{name}.png").write_bytes(b"nothing")
    more = [tmp_path/f"{name}.png" for name in ("turned", "other", "broken-x", "broken-y")]
    assert group_copies([*files, *more]) == [[0, 1, 2, 3, 4], [5], [6], [7]]
    assert pixel_hashes(more)[2:] == [None, None]


def test_a_file_that_changes_is_hashed_again(tmp_path):
    found = []
    for k in range(2):
        Image.fromarray(np.full((4, 4 + k, 3), k, np.uint8)).save(tmp_path/"a.png")
        found += pixel_hashes([tmp_path/"a.png"])
    assert len(set(found)) == 2


def random_set(rng, groups):
    "Images of three classes in groups of all sizes, some of them in two classes, some images copies of others."
    n = int(rng.integers(30, 120))
    images = [np.full((1, 2, 3), (i//256, i % 256, 0), np.uint8) for i in rng.integers(0, 10*n, n)]
    labels = rng.choice(["a", "b", "c"], n, p=[.5, .3, .2])
    return ImageSet(images, labels, groups=rng.integers(0, n//groups, n) if groups else None)


@pytest.mark.parametrize("groups", [0, 2, 5])
@pytest.mark.parametrize("seed", range(8))
def test_a_split_shares_no_copy_and_no_group(groups, seed):
    images = random_set(np.random.default_rng(seed), groups)
    train, test = images.split(test_size=.25, seed=seed)
    assert set(train.classes) == set(test.classes) == set(images.classes) and len(train) + len(test) == len(images)
    if groups: assert not set(train.groups) & set(test.groups)
    assert not {im.tobytes() for im in train.images} & {im.tobytes() for im in test.images}
    assert abs(len(test) - len(images)/4) <= 1 + 3*groups


def test_a_large_group_and_small_ones():
    "A group larger than the quota trains; where all are larger, the smallest is tested on."
    sizes = {"x": 30, "y": 5, "z": 5}
    groups = np.repeat(list(sizes), list(sizes.values()))
    images = ImageSet([np.full((1, 1, 3), i, np.uint8) for i in range(80)], ["a"]*40 + ["b"]*40, groups=np.append(groups, np.arange(40)))
    test = images.split(test_size=.25, seed=3)[1]
    assert "x" not in test.groups and (test.labels == "a").sum() == 10
    few = images[np.isin(images.groups, ["x"]) | (images.labels == "b")]
    with pytest.raises(ValueError, match="class 'a' has 30 images, all of one group"): few.split()
    halves = ImageSet(images.images[:20], ["a"]*10 + ["b"]*10, groups=[0]*6 + [1]*4 + [2]*6 + [3]*4)
    assert sorted(set(halves.split(test_size=.1)[1].groups)) == ["1", "3"]


def test_parts_that_share_a_group_are_named(tmp_path):
    for k, name in enumerate(f"{part}/{c}/p{i}.png" for part in ("train", "test") for c in ("a", "b") for i in range(3)):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(tmp_path/name)
    images = load_folder(tmp_path, progress=False, groups=r"(?P<group>p\d)")
    assert "6 image(s) of the latter share a group with training images" in images.own_split


TABLES = [("image,group\na/1.png,x\na/1.png,y\nb/2.png,x\n", "names a/1.png twice"),
          ("picture;part\na/1.png;x\n", "needs the columns"), ("image;group\na/1.png;x\n", "does not name b/2.png"),
          ("image,group\na/1.png,x\nb/2.png,\n", "names no group of b/2.png"), ("image,group\n", "does not name a/1.png"),
          ("image,group\na/1.png,x\nb/3.png,x\n", "names b/3.png, and there is no such image"), ("", "does not name a/1.png")]


@pytest.mark.parametrize("text, message", TABLES)
def test_tables_of_groups(tmp_path, text, message):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path/"set"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), len(name), np.uint8)).save(tmp_path/"set"/name)
    table = tmp_path/"groups.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_folder(tmp_path/"set", groups=table)


def test_groups_of_a_folder_with_masks_and_broken_images(tmp_path):
    "A table made on Windows, with a byte order mark, names below the folder with and without images/; what is skipped needs a row as well."
    for k, name in enumerate(("images/a/p1/1.png", "images/a/p2/2.png", "images/b/p1/3.png", "masks/a/p1/1.png")):
        (tmp_path/"set"/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(tmp_path/"set"/name)
    (tmp_path/"set/images/b/p1/broken.png").write_bytes(b"nothing")
    table = "\ufeffimage,group,remark\r\na\\p1\\1.png,x,\r\nimages/a/p2/2.png,y,\r\nb/p1/3.png,x,old\r\nb/p1/broken.png,x,\r\n"
    (tmp_path/"groups.csv").write_text(table, encoding="utf-8", newline="")
    images = load_folder(tmp_path/"set", on_error="skip", progress=False, groups=str(tmp_path/"groups.csv"))
    assert images.groups.tolist() == ["x", "y", "x"] and "2 groups, the largest of 2 images: x" in repr(images)
    assert load_folder(tmp_path/"set", on_error="skip", progress=False, groups="1").groups.tolist() == ["p1", "p2", "p1"]


@pytest.mark.parametrize("groups, message", [("part", "give a pattern"), ("(?P<group>", "is no regular expression"), (0, "counted from 1"),
                                             ("-1", "counted from 1"), ("twins", "give a pattern"), ("none.csv", "none.csv")])
def test_what_names_no_groups(tmp_path, groups, message):
    (tmp_path/"a").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path/"a/1.png")
    with pytest.raises((ValueError, OSError), match=message): load_folder(tmp_path, progress=False, groups=groups)


def test_what_systems_put_beside_photographs_is_left_out(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "a/@eaDir/1.png/SYNOPHOTO_THUMB_M.png", "@eaDir/a/1.png", "__MACOSX/b/._1.png", "#recycle/a/2.png")
    images = load_folder(tmp_path, progress=False)
    assert images.names == ["a/1.png", "b/1.png"] and images.passed_over["made by the system"]
    assert [(name, label) for name, _, label in list_images(tmp_path)] == [("a/1.png", "a"), ("b/1.png", "b")]


def test_a_class_written_in_two_ways_is_one(tmp_path):
    nfc, nfd = "Kratz\u00e9r", "Kratze\u0301r"
    put(tmp_path, f"train/{nfc}/1.png", "train/good/1.png", f"test/{nfd}/2.png", "test/good/2.png")
    images = load_folder(tmp_path, progress=False)
    assert images.classes == [nfc, "good"] and "fitted on train (2), scored on test (2)" in images.own_split


def test_several_split_sets_in_one_folder(tmp_path):
    things = (f"{thing}/{part}/good/1.png" for thing in ("bottle", "cable") for part in ("train", "test"))
    put(tmp_path, "cable/ground_truth/bent/1.png", *things)
    with pytest.raises(ValueError, match="holds 2 data set.* each split on its own: pass one of them, such as .*bottle"):
        load_folder(tmp_path)


def test_names_that_are_no_utf_8(tmp_path, capfd):
    put(tmp_path, "a/1.png", "b/1.png")
    strange = os.fsencode(tmp_path/"a") + b"/b\xe9b\xe9.png"
    try: Path(os.fsdecode(strange)).write_bytes((tmp_path/"a"/"1.png").read_bytes())
    except OSError: pytest.skip("this system has no such names")
    images = load_folder(tmp_path, progress=False)
    assert images.names == ["a/1.png", "b/1.png"] and "1 with a name that is no UTF-8 (rename them)" in repr(images)
    assert [name for name, _, _ in list_images(tmp_path)] == ["a/1.png", "b/1.png"]
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(ValueError, match="caf.*is no UTF-8: rename it"): load_folder(tmp_path)


def test_generators_and_stacks_are_many_images():
    backbone = Backbone(weights=None, size=32)
    images = [SEEN_COLOUR, 255 - SEEN_COLOUR]
    expected = backbone.embed(images, progress=False)
    assert np.array_equal(backbone.embed(iter(images), progress=False), expected)
    stack = np.stack([SEEN, 255 - SEEN, SEEN, SEEN, SEEN])
    assert np.array_equal(backbone.embed(stack, progress=False), backbone.embed(list(stack), progress=False))
    labels = ["a", "b"]*4
    clf = EmbeddingClassifier(backbone, progress=False).fit((image for image in images*4), labels)
    assert clf.predict(iter(images)).tolist() == labels[:2] and clf.knows(iter(images)).all()
    with pytest.raises(ImageError, match="transpose.*grey images in a stack are list"): open_image(np.zeros((3, 24, 36)))
