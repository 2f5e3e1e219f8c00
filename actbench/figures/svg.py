"""The SVG that Vega writes, to a third of its size: without names of marks, empty groups and digits that nobody sees."""

from __future__ import annotations

import re
from xml.etree import ElementTree

NAMESPACE = "http://www.w3.org/2000/svg"
# of each mark; the picture as a whole is named and described instead
UNSEEN = {"class", "role", "pointer-events", "aria-hidden", "aria-label", "aria-roledescription", "stroke-miterlimit", "version"}
USUAL = {"opacity": "1", "stroke-width": "1", "x2": "0", "y2": "0", "transform": "translate(0,0)", "text-anchor": "start",
         "font-weight": "normal", "stroke-dasharray": "1,0", "fill-opacity": "1", "stroke-opacity": "1"}  # fmt: skip
INHERITED = ("fill", "stroke", "stroke-width", "stroke-dasharray", "text-anchor", "font-family", "font-size", "font-weight")
GEOMETRY = ("d", "transform", "x2", "y2", "width", "height", "font-size")
_LONG = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")


def lean(text: str) -> ElementTree.Element:
    """The root element of an SVG, whose names are without their namespace."""
    root = ElementTree.fromstring(text)
    _tidy(root)
    for background in root.findall("rect"):  # where a picture is to have one, it is its own matter
        root.remove(background)
    return root


def _tidy(element: ElementTree.Element) -> None:
    element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    for name, value in list(element.items()):
        if name in UNSEEN or USUAL.get(name) == value:
            del element.attrib[name]
        elif name in GEOMETRY:
            element.set(name, _LONG.sub(_rounded, value))
    for child in list(element):
        _tidy(child)
        place = list(element).index(child)
        if _invisible(child):
            element.remove(child)
        elif child.tag == "g" and not child.attrib:
            element.remove(child)
            for number, inner in enumerate(list(child)):
                element.insert(place + number, inner)
    if element.tag == "g" and len(element) > 1:
        _hoist(element)


def _rounded(number: re.Match[str]) -> str:
    return f"{round(float(number[0]), 1):g}" if abs(float(number[0])) < 1e5 else number[0]


def _invisible(element: ElementTree.Element) -> bool:
    if element.tag == "g":
        return not len(element)
    if element.get("display") == "none" or element.get("opacity") == "0":
        return True
    return element.tag == "path" and not (element.get("d") and (element.get("fill") or element.get("stroke")))


def _hoist(group: ElementTree.Element) -> None:
    """What all of a group have in common, the group has."""
    for name in INHERITED:
        values = {child.get(name) for child in group}
        if len(values) == 1 and None not in values and name not in group.attrib:
            group.set(name, values.pop() or "")
            for child in group:
                del child.attrib[name]
