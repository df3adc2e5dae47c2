"Edge cases of embcam.drawing.plotting."
import warnings

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager, rc_context, style
from matplotlib.colors import to_rgb
from PIL import Image

from embcam import figure as figure_room

from embcam.drawing import annotate, mask_outline, overlay, ranking_bars, show_map
from embcam.drawing.plotting import explanation_figure
from embcam.drawing.plotting import map_rows
from embcam.figure import figure_jpeg, new_figure, other_fonts
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


def test_why_a_row_is_empty_is_said_once():
    empty = dict.fromkeys(["combined", "a", "b"], np.zeros((20, 30), np.float32))
    figure = map_rows([(IMAGE, empty, "", None, {"combined": "zero", "a": "zero", "b": "a hook"})])
    texts = ["".join(text.get_text() for text in ax.texts) for ax in figure.axes[1:4]]
    assert texts == ["no evidence\nzero", "no evidence", "no evidence\na hook"]


def test_map_rows_and_explanation_figure_resize_the_image():
    strength = RNG.random((20, 30)).astype(np.float32)
    figure = map_rows([(IMAGE, {"a": strength, "b": 0*strength})], ["b", "a"])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["image", "b", "a"]
    assert figure.axes[0].images[0].get_array().shape[:2] == (20, 30)
    assert explanation_figure(IMAGE, {"a": strength}, summary="a").axes[1].images[0].get_array().shape[:2] == (20, 30)


def test_outline_of_a_small_image_leaves_the_mask_visible():
    mask = RNG.random((40, 60)) < .4
    assert not (mask_outline(mask, mask.shape) & mask).any()


def drawn(**options):
    "The figure of an explanation of a class in two scripts."
    strength = RNG.random((20, 30)).astype(np.float32)
    return explanation_figure(IMAGE, {"a": strength}, summary="\u574f_1 $5 (80%)", notes=["Kratz\u00e9r"], title="50 %_a", **options)


@pytest.fixture
def chinese(tmp_path):
    "A font of two Chinese letters, as if it were installed."
    font = TTFont(font_manager.findfont("DejaVu Sans"))
    for table in font["cmap"].tables:
        if table.isUnicode(): table.cmap = {0x597d: "A", 0x574f: "B"}
    for record in font["name"].names: record.string = "Test Hanzi"
    font.save(tmp_path/"hanzi.ttf")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(tmp_path/"hanzi.ttf")
    figure_room._font_with.cache_clear()
    yield "Test Hanzi"
    font_manager.fontManager.ttflist[:] = before
    figure_room._font_with.cache_clear()
    font_manager._findfont_cached.cache_clear() if hasattr(font_manager, "_findfont_cached") else None


def test_letters_come_from_a_font_that_has_them(chinese):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = drawn()
        figure_jpeg(figure)
    assert chinese in [name for text in figure.findobj(lambda artist: hasattr(artist, "get_fontfamily")) for name in text.get_fontfamily()]
    assert other_fonts("\u597d\u574f", font_manager.FontProperties()) == [chinese]


def test_squares_are_said_once():
    figure_room._TOLD.clear()
    figure_room._font_with.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2): figure_jpeg(drawn())
    if other_fonts("\u574f", font_manager.FontProperties()): pytest.skip("a font has it here")
    assert [str(one.message)[:30] for one in told] == ["No installed font has the lett"]


@pytest.mark.parametrize("name", ["dark_background", "ggplot", "grayscale"])
def test_styles_of_the_user(name):
    "Notes and titles can be read on the style's ground: a contrast of 4.5 at least."
    with style.context(name):
        figure = drawn()
        ground = luminance(figure.get_facecolor())
        for text in (figure._supxlabel, figure._suptitle):
            high, low = sorted([luminance(text.get_color()), ground], reverse=True)
            assert (high + .05)/(low + .05) >= 4.5
        assert figure_jpeg(figure)


def luminance(colour):
    values = np.array(to_rgb(colour))
    return np.where(values <= .04, values/12.92, ((values + .055)/1.055)**2.4) @ [.2126, .7152, .0722]


def test_latex_is_not_asked():
    with rc_context({"text.usetex": True}):
        figure = drawn()
        assert figure_jpeg(figure) and not figure._suptitle.get_usetex()


def test_rows_whose_maps_differ_share_what_all_have():
    image, m = np.zeros((8, 8, 3), np.uint8), np.eye(8)
    figure = map_rows([(image, {"combined": m, "layer": m}), (image, {"combined": m, "bank": m})])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["image", "combined"] and len(figure.axes) == 5
