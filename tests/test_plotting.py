"Edge cases of embcam.drawing.plotting."
import numpy as np
import pytest
from PIL import Image

from embcam.drawing import annotate, mask_outline, overlay, ranking_bars, show_map
from embcam.drawing.plotting import explanation_figure
from embcam.drawing.plotting import map_rows
from embcam.figure import figure_jpeg, new_figure
from embcam.images import encode_image, resize, thumbnail

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def outline_by_hand(mask):
    "Pixels on either side of the mask's border, four neighbours each."
    def grown(m):
        m = np.pad(m, 1)
        return m[1:-1, 1:-1] | m[:-2, 1:-1] | m[2:, 1:-1] | m[1:-1, :-2] | m[1:-1, 2:]
    return grown(mask) & grown(~mask)


@pytest.mark.parametrize("shape", [(40, 260), (200, 5), (1, 209)])
def test_outline_is_the_border_from_both_sides(shape):
    mask = RNG.random(shape) < .4
    mask[0, 0], mask[-1, -1] = True, False
    assert (mask_outline(mask, shape) == outline_by_hand(mask)).all()


def test_outline_touches_no_edge_of_the_image():
    assert not mask_outline(np.ones((8, 8), bool), (16, 16)).any()
    assert mask_outline(np.zeros((8, 8), bool), (16, 16)) is None


def test_outline_of_a_large_image_is_wider():
    mask = np.zeros((60, 60), bool)
    mask[:, 30:] = True
    assert [int(mask_outline(mask, (side, side))[0].sum()) for side in (60, 600, 1200)] == [1, 2, 6]


@pytest.mark.parametrize("strength, signed", [([[1.1]], False), ([[-.1]], False), ([[-1.1]], True), ([[np.nan]], True),
                                              ([[np.inf]], False)])
def test_overlay_refuses_what_is_not_scaled(strength, signed):
    with pytest.raises(ValueError, match="heat"): overlay(IMAGE, np.array(strength), signed=signed)


def test_overlay_takes_maps_of_any_size():
    strength = RNG.random((20, 30)).astype(np.float32)
    assert overlay(IMAGE, strength).shape == IMAGE.shape
    assert (overlay(IMAGE, np.nextafter(np.float32(1), 2)*np.ones((40, 60))) == overlay(IMAGE,
        np.ones((40, 60)))).all()  # rounding is forgiven
    with pytest.raises(ValueError, match="two axes"): overlay(IMAGE, strength[0])


@pytest.mark.parametrize("image", ["image.png", IMAGE[..., 0], IMAGE/255, np.dstack([IMAGE, IMAGE[..., :1]]), Image.fromarray(IMAGE)],
                         ids=["path", "grey", "float", "alpha", "PIL"])
def test_overlay_takes_arrays_of_bytes_only(image):
    with pytest.raises(ValueError, match=r"\(h, w, 3\) uint8, not .*open_image"): overlay(image, np.ones((40, 60)))


def test_overlay_leaves_its_arguments_alone():
    image, strength = IMAGE.copy(), np.ones((40, 60), np.float32)
    overlay(image, strength, outline=np.ones((40, 60), bool))
    assert (image == IMAGE).all() and (strength == 1).all()


def test_overlay_without_opacity_is_the_faded_image():
    assert (overlay(IMAGE, np.ones((40, 60)), alpha=0) == overlay(IMAGE, np.zeros((40, 60)))).all()
    assert (overlay(IMAGE, np.zeros((40, 60)), signed=True) == overlay(IMAGE, np.zeros((40, 60)))).all()


def test_signed_maps_mirror_their_colours():
    reds, blues = (overlay(IMAGE*0 + 128, s*np.ones((40, 60)), signed=True)[0, 0].astype(int) for s in (1, -1))
    assert reds[0] > reds[2] and blues[2] > blues[0]


def test_resize_keeps_kinds():
    assert resize(RNG.random((4, 4)) > .5, (9, 7)).dtype == bool
    assert resize(RNG.random((4, 4)), (9, 7)).shape == (9, 7)
    assert resize(IMAGE, (40, 60)) is IMAGE
    assert thumbnail(np.zeros((1, 1000, 3), np.uint8), 10).shape == (1, 10, 3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 300, 3), (300, 8, 3)])
def test_annotate_fits_any_shape(shape):
    image = np.zeros(shape, np.uint8)
    assert annotate(image, "no evidence: averyveryverylongwordthatcannotbebroken").shape == shape
    assert not image.any()


def test_encoded_images_are_files():
    assert encode_image(IMAGE)[:3] == b"\xff\xd8\xff" and encode_image(IMAGE, "PNG")[:4] == b"\x89PNG"


def test_functions_return_axes_or_figures():
    ax = new_figure().add_subplot()
    assert show_map(IMAGE, np.zeros((40, 60)), ax) is ax and ranking_bars([1], [1.], ax=ax) is ax
    own = show_map(IMAGE, np.zeros((40, 60)), title="x")
    assert figure_jpeg(own.figure) == own.figure._repr_jpeg_()


def test_masks_of_a_single_row_are_outlined():
    show_map(IMAGE[:1], np.ones((1, 60)), mask=np.arange(60)[None] > 30)


def test_map_rows_and_explanation_figure_resize_the_image():
    strength = RNG.random((20, 30)).astype(np.float32)
    figure = map_rows([(IMAGE, {"a": strength, "b": 0*strength})], ["b", "a"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["image", "b", "a"]
    assert figure.axes[0].images[0].get_array().shape[:2] == (20, 30)
    assert explanation_figure(IMAGE, {"a": strength}, summary="a").axes[1].images[0].get_array().shape[:2] == (20, 30)


def test_outline_of_a_small_image_leaves_the_mask_visible():
    mask = RNG.random((40, 60)) < .4
    assert not (mask_outline(mask, mask.shape) & mask).any()
