"Edge cases of embcam.drawing.pages."
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from embcam.drawing.pages import _LISTED, _bar, _image_tag, _page, _table, comparison_page, explanation_page, index_page

IMAGE = np.zeros((8, 8, 3), np.uint8)
EVIL = "<script>alert('\"&')</script>"
VOID = {"meta", "img", "br"}


class Checked(HTMLParser):
    "Every element that is opened is closed, in order; images have a text; nothing is fetched."
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID: self.open.append(tag)
        attributes = dict(attributes)
        if tag == "img": assert attributes["alt"] and attributes["src"].startswith("data:image/")
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.text += data


def record(**changes):
    return dict(name="a.png", prediction="open", probabilities={"good": .25, "open": .75}, label="open", versus=None,
                target="signed, top 2",
                method="layercam", similarity=None, evidence={"layer4": .5, "combined": .5}, trust=None, notes=[],
                settings=dict(estimator="SVC", scores="probability"), ranked_by="lime",
                ranking=[dict(feature=7, weight=.5, value=.1, absent=False, top=True)]) | changes


TRUST = dict(margin=.5, distance=1., percentile=.2, likeness={"layer4": .1, "combined": .2}, overlap=.4, k=1,
             in_top={"7": dict(share=.8, low=.3, high=1.)})


@pytest.mark.parametrize("changes", [
    {}, dict(trust=TRUST), dict(trust=TRUST | dict(overlap=None, in_top=None, likeness=None)), dict(ranking=None, ranked_by=None),
    dict(versus="good"), dict(similarity=.3, notes=["one", "two"]), dict(limits={"layer4": 1.}),
    dict(ranking=[dict(feature=7, weight=0., value=.1, absent=True, top=True)])])
def test_pages_are_whole(changes):
    Checked(explanation_page(record(**changes), {"image": IMAGE, "combined": IMAGE}))


def test_names_are_text_everywhere():
    evil = record(name=EVIL, prediction=EVIL, probabilities={EVIL: 1.}, label=EVIL, versus=EVIL, target=EVIL, notes=[EVIL],
                  settings={"weights": EVIL},
                  trust=TRUST | dict(likeness={EVIL: .1}), ranking=[dict(feature=7, name=EVIL, weight=1., value=0., absent=False,
                      top=True)], ranked_by=EVIL)
    for written in (explanation_page(evil, {EVIL: IMAGE}), index_page(EVIL, [dict(caption=EVIL, link=EVIL, image=IMAGE)]),
                    comparison_page(EVIL, [EVIL], b"", {EVIL: [dict(map=EVIL, mean=0, low=0, high=0, n=1, empty=0, forwards=0, backwards=0,
                        seconds=0)]})):
        assert EVIL in Checked(written).text and "<script" not in written


def test_what_the_page_says():
    text = Checked(explanation_page(record(trust=TRUST, versus="good"), {})).text
    for words in ("a.png: open (75%)", "Why open, not good?", "80% (30% to 100%)", "in the top 1, over seeds",
                  "farther than 20% of these", "no map can locate it",
                  "cannot be compared"): assert words in text, words
    assert "Likeness" not in Checked(explanation_page(record(), {})).text
    assert "can be compared" in Checked(explanation_page(record(limits={"layer4": 1.}), {})).text
    assert "75% of squashed margins" in explanation_page(record(settings=dict(scores="squashed margin")), {})


def test_classes_that_are_numbers():
    assert "a.png: 1 (75%)" in explanation_page(record(prediction=1, label=1, probabilities={"0": .25, "1": .75}), {})


def test_long_rankings_are_cut():
    many = [dict(feature=f, name=f"blocks.4/{f}", weight=1/(f + 1), value=0., absent=False, top=f < 300) for f in range(704)]
    text = Checked(explanation_page(record(ranking=many), {})).text
    assert f"blocks.4/{_LISTED - 1}" in text and f"blocks.4/{_LISTED}" not in text and f"And {300 - _LISTED} more features" in text


def test_records_survive_json():
    again = json.loads(json.dumps(record(trust=TRUST)))
    assert explanation_page(again, {}) == explanation_page(record(trust=TRUST), {})


def test_comparison_with_differences():
    row = dict(map="a", mean=.5, low=.4, high=.6, n=3, empty=1, forwards=2, backwards=1, seconds=.25, difference=-.1, to=.1) | {"from": -.3}
    text = Checked(comparison_page("t", ["about"], b"", {"deletion": [row], "auc": [row]}, against="b", low_is_good=["deletion"])).text
    for words in "deletion (low is good)", "less b", "-0.100", "-0.300 to +0.100", "0.400 to 0.600": assert words in text


def test_pieces():
    assert _table([["<", Markup("<b>x</b>")]], ["&"]).count("&lt;") == 1
    assert "width:6.00rem" in _bar(.5) and "against" in _bar(.5, True)
    assert isinstance(_image_tag(IMAGE, "x"), Markup)
    Checked(_page("x", "<p>y</p>"))


def test_thumbnails_are_small():
    written = index_page("t", [dict(caption="a", link="a/index.html", image=np.zeros((2000, 1000, 3), np.uint8))], before="<p>before</p>")
    assert len(written) < 10_000 and "<p>before</p>" in written and 'href="a/index.html"' in written
