"""A figure as SVG for the page, and as a file: SVG, PNG or PDF. All of it offline, by vl-convert; same figure, same bytes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from actbench.figures import style
from actbench.figures.figure import Figure
from actbench.figures.svg import NAMESPACE, lean

FORMATS = ("svg", "png", "pdf")
SHARPNESS = 3  # pixels of a PNG for each of the chart's: about 290 an inch
POINTS = 72 / 25.4  # in a millimetre
PIXELS = 96 / 25.4
TOKEN_OF = {light: f"var(--{name})" for name, light in style.LIGHT.items()}


def inline_svg(figure: Figure) -> str:
    """SVG to stand in the page: colours are CSS variables, letters the page's own, ids begin with the figure's name; titled and
    described. Its ``width`` is its natural one: the page sets ``max-width: 100%; height: auto``.
    """
    root = _drawn(figure)
    for element in root.iter():
        element.attrib.pop("font-family", None)
        for name in ("fill", "stroke"):
            if (colour := element.get(name)) is not None:
                element.set(name, TOKEN_OF.get(colour, colour))
    ids = [_describe(root, figure, name, text) for name, text in (("desc", figure.text), ("title", figure.title))]
    root.set("aria-labelledby", ids[1])
    root.set("aria-describedby", ids[0])
    root.attrib.pop("height")
    return ElementTree.tostring(root, encoding="unicode")


def picture(figure: Figure, format: str) -> bytes:
    """A file in one of ``FORMATS``: on white, in light colours, and on paper as wide as the figure's size says."""
    import vl_convert

    root = _drawn(figure)
    pixels, high = float(root.get("width", 0)), float(root.get("height", 0))
    wide = style.SIZES[figure.size] if pixels >= style.PIXELS[figure.size] else pixels / PIXELS  # mm
    ratio = high / pixels
    root.insert(0, ElementTree.Element("rect", {"width": "100%", "height": "100%", "fill": style.BG}))
    if format == "png":
        return vl_convert.svg_to_png(_text(root), scale=wide * PIXELS / pixels * SHARPNESS)
    if format == "pdf":  # in which a unit is a point
        root.attrib |= {"width": f"{wide * POINTS:.2f}", "height": f"{wide * ratio * POINTS:.2f}"}
        return vl_convert.svg_to_pdf(_text(root))
    root.attrib |= {"width": f"{wide:.1f}mm", "height": f"{wide * ratio:.1f}mm"}
    for name, text in (("desc", figure.text), ("title", figure.title)):
        _describe(root, figure, name, text)
    return _text(root).encode() + b"\n"


def _drawn(figure: Figure) -> ElementTree.Element:
    """The SVG, without what a reader does not see; its ids are the figure's own."""
    import vl_convert

    specification = style.themed(figure.chart).to_dict(validate=False)  # which it was when it was made
    root = lean(vl_convert.vegalite_to_svg(specification, allowed_base_urls=[]))
    # Vega counts ids on from figure to figure
    found = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    ids = {name: f"{_prefix(figure)}{number}" for number, name in enumerate(found)}
    for element in root.iter():
        if "id" in element.attrib:
            element.set("id", ids[element.attrib["id"]])
        if (reference := element.get("clip-path", "")).startswith("url(#"):
            element.set("clip-path", f"url(#{ids[reference[5:-1]]})")
    root.attrib |= {"xmlns": NAMESPACE, "role": "img"}
    return root


def _prefix(figure: Figure) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", figure.name) + "-"


def _describe(root: ElementTree.Element, figure: Figure, name: str, text: str) -> str:
    """Puts a title or description at the head of the SVG; returns its id."""
    element = ElementTree.Element(name, {"id": f"{_prefix(figure)}{name}"})
    element.text = text
    root.insert(0, element)
    return element.attrib["id"]


def _text(root: ElementTree.Element) -> str:
    return ElementTree.tostring(root, encoding="unicode")
