"""Synthetic anime-style faces, with the factors that each was made from.

A face is drawn on a field whose middle is between the eyes: x to the right, y down, the image 1
wide.  From the back to the front: background, back hair, shoulders, face, eyes, mouth, fringe,
accessories, light.

As a script it draws a part of the faces in a process of its own, to standard output:

    python synthetic_faces.py IMAGE_SIZE SEED START STOP
"""

import colorsys
import functools
import subprocess
import sys

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 4  # drawn this many times larger, then averaged, for smooth edges


@functools.lru_cache(maxsize=None)
def _points(text):
    """Numbers 'x y, x y, ...' as an array (N, 2), or of as many columns as there are."""
    return np.array([point.split() for point in text.split(",")], float)


HAIR = [  # hue, saturation, value
    tuple(colour)
    for colour in _points(
        "0.07 0.25 0.22, 0.62 0.25 0.20, 0.06 0.45 0.38, 0.07 0.55 0.55, 0.10 0.50 0.78,"
        "0.13 0.45 0.92, 0.95 0.45 0.88, 0.02 0.65 0.66, 0.06 0.75 0.90, 0.60 0.50 0.58,"
        "0.56 0.45 0.80, 0.75 0.40 0.62, 0.80 0.28 0.86, 0.38 0.45 0.58, 0.60 0.12 0.84,"
        "0.93 0.50 0.50"
    ).tolist()
]
SKIN = [(255, 236, 220), (255, 227, 205), (252, 214, 190), (240, 196, 164), (206, 154, 118)]

# Each factor is uniform: over whole numbers 0 ... n - 1 (choices, listed), or over an interval.
FACTORS = {
    "hair_style": ("short", "bob", "long", "wavy", "twin tails", "side tail"),
    "hair_colour": HAIR,
    "hair_shade": (-1.0, 1.0),
    "fringe": ("straight", "spiky", "parted", "swept left", "swept right"),
    "fringe_length": (-0.05, 0.025),
    "face_width": (0.235, 0.285),
    "chin": (0.33, 0.39),
    "skin": SKIN,
    "eye_shape": ("round", "sharp", "drooping"),
    "eye_size": (0.85, 1.18),
    "eye_distance": (0.126, 0.144),
    "eye_hue": (0.0, 1.0),
    "eye_value": (0.45, 0.85),
    "eye_open": (0.62, 1.0),
    "gaze_x": (-0.014, 0.014),
    "gaze_y": (-0.008, 0.012),
    "highlights": ("one", "two", "three"),
    "brow_angle": (-0.35, 0.35),
    "brow_height": (-0.015, 0.02),
    "mouth": ("smile", "open", "small", "frown", "cat"),
    "mouth_width": (0.035, 0.065),
    "blush": (0.0, 1.0),
    "accessory": tuple("none,none,ribbon,hairpin,glasses,hairband,cat ears,earrings".split(",")),
    "accessory_hue": (0.0, 1.0),
    "clothes_hue": (0.0, 1.0),
    "clothes_value": (0.25, 0.95),
    "background": ("white", "plain", "gradient", "spots"),
    "background_hue": (0.0, 1.0),
    "tilt": (-0.24, 0.24),
    "turn": (-0.045, 0.045),
    "shift_x": (-0.035, 0.035),
    "shift_y": (-0.03, 0.03),
    "zoom": (1.06, 1.32),
    "light": (-1.0, 1.0),
}


def _is_interval(values):
    return len(values) == 2 and isinstance(values[0], float)


def face_factors(num_images, seed=0):
    """The factors of the first faces of a seed, float32 (num_images, len(FACTORS)).

    A column for each name in `FACTORS`: a position in its choices, or a number in its interval
    (lengths in widths of the image, angles in radians, hues and values from 0 to 1).
    """
    uniform = np.random.default_rng(seed).random((num_images, len(FACTORS)))
    columns = [
        values[0] + u * (values[1] - values[0])
        if _is_interval(values)
        else np.floor(u * len(values))
        for u, values in zip(uniform.T, FACTORS.values())
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _rgb(hue, saturation, value):
    saturation, value = (min(max(number, 0), 1) for number in (saturation, value))
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _darker(colour, share):
    """A shade of a colour, a little colder; above 1 a tint of it."""
    if share > 1:
        return tuple(int(c + (255 - c) * (share - 1)) for c in colour)
    return tuple(int(c * share**k) for c, k in zip(colour, (1.1, 1.1, 0.85)))


@functools.lru_cache(maxsize=None)
def _spline(num_points, closed, steps=5):
    """The matrix that turns points into a smooth curve through them (Catmull-Rom)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    basis = 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    segments = num_points if closed else num_points - 1
    matrix = np.zeros((segments * steps + (not closed), num_points))
    for i in range(segments):
        for column, weights in zip(range(i - 1, i + 3), basis.T):
            place = column % num_points if closed else min(max(column, 0), num_points - 1)
            matrix[i * steps : (i + 1) * steps, place] += weights
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def _smooth(points, closed=True):
    points = np.asarray(points, float)
    return _spline(len(points), closed) @ points


def _both_sides(points):
    """The right half of a shape, from top to bottom, and its mirror image from bottom to top."""
    points = np.asarray(points, float)
    left = points[np.abs(points[:, 0]) > 1e-6][::-1] * (-1, 1)
    return np.vstack([points, left])


@functools.lru_cache(maxsize=None)
def _circle(num_points=20):
    angle = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


class _Canvas:
    """An image to draw on in the face's own coordinates."""

    def __init__(self, side, colour, face):
        self.side = side
        self.image = Image.new("RGB", (side, side), colour)
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        cos = np.cos(face["tilt"]) * face["zoom"] * side
        sin = np.sin(face["tilt"]) * face["zoom"] * side
        self.matrix = np.array([[cos, sin], [-sin, cos]])
        self.offset = np.array([0.5 + face["shift_x"], 0.52 + face["shift_y"]]) * side

    def place(self, points):
        return [(x, y) for x, y in (np.asarray(points) @ self.matrix + self.offset).tolist()]

    def stroke(self, places, colour, width):
        width = max(1, round(width * self.side))
        self.pen.line(places, fill=colour, width=width, joint="curve")

    def fill(self, points, colour, outline=None, width=0.008):
        places = self.place(points)
        self.pen.polygon(places, fill=colour)
        if outline:
            self.stroke(places + places[:2], outline, width)

    def line(self, points, colour, width=0.008):
        self.stroke(self.place(points), colour, width)

    def spot(self, x, y, width, height, colour, outline=None):
        self.fill(_circle() * (width, height) + (x, y), colour, outline)


def _choice(face, name):
    return FACTORS[name][int(face[name])]


def _background(canvas, face, rng):
    hue, kind, side = face["background_hue"], _choice(face, "background"), canvas.side
    if kind == "gradient":
        top, bottom = _rgb(hue, 0.45, 0.80), _rgb(hue + 0.12, 0.15, 1)
        share = np.linspace(0, 1, side)[:, None, None]
        rows = (1 - share) * np.array(top) + share * np.array(bottom)
        canvas.image.paste(Image.fromarray(rows.astype(np.uint8)).resize((side, side)))
    if kind == "spots":
        for x, y, size in rng.uniform((0, 0, 0.04), (1, 1, 0.12), (7, 3)) * side:
            corners = (x - size, y - size, x + size, y + size)
            canvas.pen.ellipse(corners, fill=_rgb(hue, 0.16, 1) + (170,))


def _background_colour(face):
    colours = {
        "plain": _rgb(face["background_hue"], 0.28, 0.86),
        "spots": _rgb(face["background_hue"], 0.32, 0.92),
    }
    return colours.get(_choice(face, "background"), (255, 255, 255))


BACK_HAIR = {  # below the ears, the right side; x in widths of the hair
    "short": "1.08 0.10, 0.98 0.22, 0.80 0.20, 0.70 0.30",
    "bob": "1.14 0.16, 1.12 0.30, 0.92 0.37, 0.60 0.35",
    "long": "1.12 0.20, 1.16 0.42, 1.20 0.62, 0.30 0.62",
    "wavy": "1.22 0.10, 1.10 0.20, 1.34 0.33, 1.18 0.46, 1.36 0.62, 0.30 0.62",
    "twin tails": "0.98 0.12, 0.80 0.20",
    "side tail": "1.02 0.14, 0.80 0.24",
}


def _back_hair(canvas, face, hair, dark, rng):
    style, w = _choice(face, "hair_style"), face["face_width"] + 0.075
    shade = _darker(hair, 0.80)
    for side in {"twin tails": (-1, 1), "side tail": (1,)}.get(style, ()):
        tail = _points(
            "0.20 -0.27, 0.38 -0.30, 0.49 -0.10, 0.50 0.20, 0.43 0.55, 0.36 0.30, 0.33 0.02,"
            "0.27 -0.12"
        ).copy()
        middle = _points("0.30 -0.22, 0.41 0, 0.43 0.40").copy()
        sway = rng.uniform(-0.03, 0.05)
        tail[2:6, 0] += sway
        middle[1:, 0] += sway
        canvas.fill(_smooth(tail * (side, 1)), shade, dark)
        canvas.line(_smooth(middle * (side, 1), False), dark, 0.006)
    half = _points("0 -0.41, 0.62 -0.365, 0.97 -0.21, 1.06 0," + BACK_HAIR[style])
    canvas.fill(_smooth(_both_sides(half * (w, 1))), shade, dark)


def _shoulders(canvas, face, skin):
    clothes = _rgb(face["clothes_hue"], 0.55, face["clothes_value"])
    neck = _points("-0.07 0.25, 0.07 0.25, 0.085 0.47, -0.085 0.47")
    canvas.fill(neck, _darker(skin, 0.86))
    half = _points("0 0.50, 0.09 0.41, 0.24 0.45, 0.40 0.55, 0.46 0.75, 0 0.80")
    canvas.fill(_smooth(_both_sides(half)), clothes, _darker(clothes, 0.6))
    collar = _points("-0.10 0.41, 0 0.50, 0.10 0.41, 0.06 0.40, 0 0.45, -0.06 0.40")
    canvas.fill(collar, _darker(clothes, 1.55))


def _head(canvas, face, skin, line):
    w, chin, turn = face["face_width"], face["chin"], face["turn"]
    for side in (-1, 1):
        canvas.spot(side * w * 1.0, 0.08, 0.035, 0.06, skin, line)
    half = _points("0 -0.30, 0.80 -0.22, 1 -0.04, 0.97 0.11, 0.76 0.235") * (w, 1)
    outline = _both_sides(np.vstack([half, [(w * 0.34, chin - 0.035), (0, chin)]]))
    outline[:, 0] += turn * 0.5 * (outline[:, 1] > 0.2)
    canvas.fill(_smooth(outline), skin, line, 0.007)
    shadow = _points("0 -0.28, 0.92 -0.16, 0.97 0.0, 0.6 -0.045, 0 -0.035") * (w, 1)
    canvas.fill(_smooth(_both_sides(shadow)), _darker(skin, 0.84) + (150,))
    if face["blush"] > 0.4:
        for side in (-1, 1):
            colour = (255, 120, 120, int(95 * face["blush"]))
            canvas.spot(side * 0.155 + turn, 0.165, 0.055, 0.026, colour)
    nose = [(turn * 1.5 - 0.004, 0.155), (turn * 1.5 + 0.006, 0.172)]
    canvas.line(nose, _darker(skin, 0.62), 0.008)


def _eye(canvas, face, side, line):
    shape, size = _choice(face, "eye_shape"), face["eye_size"]
    x, y = side * face["eye_distance"] + face["turn"], 0.075
    tallness = {"round": 0.086, "sharp": 0.064, "drooping": 0.074}[shape]
    width, height = 0.082 * size, tallness * size * face["eye_open"]
    slant = {"round": 0, "sharp": -0.016, "drooping": 0.014}[shape]  # of the outer corner

    def at(text, closed=False):
        """A curve through points (u, v): u towards the ear, v down, 1 at the eye's rim."""
        u, v = _points(text).T
        where = np.stack([x + side * u * width, y + v * height + slant * (u + 1) / 2], axis=1)
        return _smooth(where, closed)

    white = "-0.95 0.15, -0.55 -0.75, 0.1 -1.0, 0.75 -0.70, 1.0 0.0, 0.7 0.75, 0 1.0, -0.65 0.80"
    bright = (255, 255, 255)
    canvas.fill(at(white, True), bright)
    hue, value = face["eye_hue"], face["eye_value"]
    ix, iy = x + face["gaze_x"], y + face["gaze_y"] + slant / 2
    tall = min(height * 0.98, 0.080 * size)
    broad = width * 0.66
    lit = _rgb(hue, 0.38, min(1, value + 0.3))
    canvas.spot(ix, iy, broad, tall, _rgb(hue, 0.80, value * 0.42))
    canvas.spot(ix, iy + tall * 0.22, broad * 0.80, tall * 0.72, _rgb(hue, 0.72, value))
    canvas.spot(ix, iy + tall * 0.55, broad * 0.52, tall * 0.32, lit)
    canvas.spot(ix, iy, broad * 0.38, tall * 0.45, _rgb(hue, 0.8, value * 0.18))
    lid = at("-1.05 0.05, -0.60 -0.80, 0.1 -1.08, 0.80 -0.74, 1.18 0.08")
    canvas.fill(np.vstack([lid, at("1.0 -0.05, 0.70 -0.52, 0.1 -0.78, -0.5 -0.58")]), line)
    canvas.line(at("0.75 0.72, 0.2 1.02, -0.4 0.96"), line, 0.007)
    highlights = _points("-0.30 -0.38 0.30, 0.32 0.42 0.17, 0.34 -0.42 0.12")
    for dx, dy, r in highlights[: int(face["highlights"]) + 1]:
        canvas.spot(ix + dx * broad, iy + dy * tall, r * broad * 1.1, r * tall, bright)
    tilt = face["brow_angle"]
    brow = [(-0.9, tilt), (-0.1, -0.25), (0.95, -tilt * 0.8)]
    height = y - 0.128 + face["brow_height"]
    brow = [(x + side * u * 0.070, height + v * 0.05) for u, v in brow]
    canvas.line(_smooth(brow, False), line, 0.011)


def _mouth(canvas, face, line):
    middle, w, kind = (
        np.array([face["turn"] * 1.2, 0.245]),
        face["mouth_width"],
        _choice(face, "mouth"),
    )
    x, y = middle
    if kind == "open":
        lips = _points("-1 -0.012, 0 -0.004, 1 -0.012, 0.62 0.040, 0 0.055, -0.62 0.040")
        canvas.fill(_smooth(lips * (w, 1) + middle), (160, 50, 58), line)
        canvas.spot(x, y + 0.040, w * 0.42, 0.012, (240, 130, 130))
    elif kind == "small":
        canvas.spot(x, y + 0.004, w * 0.32, 0.013, (200, 84, 84), line)
    else:
        curve = {
            "smile": "-1 -0.012, 0 0.012, 1 -0.012",
            "frown": "-1 0.010, 0 -0.006, 1 0.010",
            "cat": "-1 -0.010, -0.5 0.008, 0 -0.006, 0.5 0.008, 1 -0.010",
        }[kind]
        canvas.line(_smooth(_points(curve) * (w, 1) + middle, False), line, 0.010)


def _fringe(canvas, face, hair, dark, rng):
    kind, w = _choice(face, "fringe"), face["face_width"] + 0.055
    number = {"straight": 7, "spiky": 6}.get(kind, 5)
    at = np.linspace(-1, 1, number + 1)
    middles = (at[1:] + at[:-1]) / 2 + rng.uniform(-0.05, 0.05, number)
    tip = {
        "straight": 0 * middles,
        "spiky": rng.uniform(-0.02, 0.035, number),
        "parted": 0.075 * np.abs(middles) ** 0.7 - 0.095 * (1 - np.abs(middles)),
        "swept left": -0.055 * middles,
        "swept right": 0.055 * middles,
    }[kind]
    tip = tip + face["fringe_length"] + rng.uniform(-0.008, 0.008, number)
    depth = {"straight": 0.035, "spiky": 0.13}.get(kind, 0.095)
    lean = {"swept left": -0.05, "swept right": 0.05}.get(kind, 0)
    lower = np.empty((2 * number - 1, 2))  # tips, and what is between two of them
    lower[::2] = np.stack([middles * w + lean, tip], axis=1)
    lower[1::2] = np.stack([at[1:-1] * w, (tip[:-1] + tip[1:]) / 2 - depth], axis=1)
    cap = _points(
        "-1 0.03, -1.02 -0.14, -0.82 -0.285, -0.42 -0.375, 0 -0.40,"
        "0.42 -0.375, 0.82 -0.285, 1.02 -0.14, 1 0.03"
    )
    canvas.fill(np.vstack([_smooth(cap * (w, 1), False), lower[::-1]]), hair, dark)
    for side in (-1, 1):  # locks in front of the ears
        lock = _points("1.03 -0.16, 1.08 0.05, 1.0 0, 0.90 0.12, 0.88 -0.06") * (w, 1)
        lock[2, 1] = rng.uniform(0.20, 0.34)
        canvas.fill(_smooth(lock * (side, 1)), hair, dark)
    crown = rng.uniform(-0.03, 0.03)
    for x, y in lower[1::2]:
        strand = [(x, y), (x * 0.92, y - 0.10), (x * 0.5 + crown, -0.36)]
        canvas.line(_smooth(strand, False), _darker(hair, 0.74), 0.006)
    for i in range(0, number, 2):  # every other strand in a shade of its own
        left, right = (at[i] * w * 0.98, -0.16), (at[i + 1] * w * 0.98, -0.16)
        strand = [left, lower[2 * i], right, (middles[i] * w * 0.6 + crown, -0.34)]
        canvas.fill(_smooth(strand), _darker(hair, 1.12) + (150,))
    u = np.linspace(-1, 1, 7)
    upper = np.stack([u * w * 0.78, -0.25 + 0.07 * u * u], axis=1)
    u = np.linspace(-1, 1, 13)
    jags = np.where(np.arange(13) % 2, 0.045, 0.008)
    spikes = np.stack([u * w * 0.78, -0.235 + 0.07 * u * u + jags], axis=1)
    canvas.fill(np.vstack([_smooth(upper, False), spikes[::-1]]), _darker(hair, 1.45) + (130,))


def _accessory(canvas, face, hair, dark):
    kind, w = _choice(face, "accessory"), face["face_width"]
    colour = _rgb(face["accessory_hue"], 0.75, 0.90)
    edge = _darker(colour, 0.55)
    if kind == "ribbon":
        for side in (-1, 1):
            bow = [(0.20, -0.33), (0.20 + side * 0.13, -0.43), (0.20 + side * 0.14, -0.25)]
            canvas.fill(_smooth(bow), colour, edge)
        canvas.spot(0.20, -0.335, 0.028, 0.03, colour, edge)
    elif kind == "hairpin":
        for dy in (0, 0.045):
            pin = [(-w * 0.95, -0.17 + dy), (-w * 0.55, -0.21 + dy)]
            canvas.line(pin, edge, 0.034)
            canvas.line(pin, colour, 0.022)
    elif kind == "hairband":
        arc = [(u * (w + 0.07), -0.31 + 0.16 * u * u) for u in np.linspace(-1, 1, 7)]
        canvas.line(_smooth(arc, False), edge, 0.048)
        canvas.line(_smooth(arc, False), colour, 0.034)
    elif kind == "cat ears":
        for side in (-1, 1):
            ear = _points("0.30 -0.24, 0.29 -0.49, 0.08 -0.38") * (side, 1)
            canvas.fill(ear, hair, dark)
            canvas.fill((ear - ear.mean(0)) * 0.55 + ear.mean(0), (250, 190, 190))
    elif kind == "glasses":
        for side in (-1, 1):
            middle = (side * face["eye_distance"] + face["turn"], 0.085)
            rim = _circle() * (0.106, 0.088) + middle
            canvas.fill(rim, (255, 255, 255, 40))
            canvas.line(np.vstack([rim, rim[:2]]), edge, 0.011)
        canvas.line([(face["turn"] - 0.03, 0.075), (face["turn"] + 0.03, 0.075)], edge, 0.011)
    elif kind == "earrings":
        for side in (-1, 1):
            canvas.spot(side * (w + 0.012), 0.165, 0.022, 0.03, colour, edge)


def _lit(image, light):
    """Brighter on one side, darker on the other, as from a lamp."""
    pixels = np.asarray(image, np.float32)
    ramp = 1 + 0.12 * light * np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)[:, None]
    return np.clip(pixels * ramp, 0, 255).astype(np.uint8)


def _draw(factors, image_size, rng):
    """One face as (3, image_size, image_size) uint8."""
    face = dict(zip(FACTORS, factors.tolist()))
    hue, saturation, value = HAIR[int(face["hair_colour"])]
    shade = face["hair_shade"]
    hair = _rgb(hue + 0.015 * shade, saturation, value * (1 + 0.12 * shade))
    skin = SKIN[int(face["skin"])]
    dark, line = _darker(hair, 0.50), _darker(_darker(hair, 0.35), 0.9)
    canvas = _Canvas(image_size * SUPERSAMPLING, _background_colour(face), face)
    _background(canvas, face, rng)
    _back_hair(canvas, face, hair, dark, rng)
    _shoulders(canvas, face, skin)
    _head(canvas, face, skin, _darker(skin, 0.60))
    for side in (-1, 1):
        _eye(canvas, face, side, line)
    _mouth(canvas, face, _darker(skin, 0.45))
    _fringe(canvas, face, hair, dark, rng)
    _accessory(canvas, face, hair, dark)
    return _lit(canvas.image.reduce(SUPERSAMPLING), face["light"]).transpose(2, 0, 1)


def _draw_part(image_size, seed, start, stop):
    """Faces `start` to `stop` of a seed; each has its own random numbers, whoever draws it."""
    factors = face_factors(stop, seed)
    faces = [
        _draw(factors[i], image_size, np.random.default_rng([seed, i])) for i in range(start, stop)
    ]
    return np.stack(faces)


def draw_faces(num_images, seed=0, image_size=64):
    """Draw anime-style faces on all cores, uint8 (num_images, 3, image_size, image_size).

    Gives them and their factors, of :func:`face_factors`.  The same seed gives the same images, bit
    for bit, however many are drawn after them.  CalledProcessError if a part's process failed,
    whose own message is on standard error.
    """
    from ..engine.threads import usable_cores  # not above: a part's process is this file alone

    cores = usable_cores() if num_images > 500 else 1
    bounds = np.linspace(0, num_images, cores + 1).astype(int)
    parts = [(start, stop) for start, stop in zip(bounds, bounds[1:]) if stop > start]
    factors = face_factors(num_images, seed)
    if len(parts) == 1:
        return _draw_part(image_size, seed, 0, num_images), factors
    commands = [[sys.executable, __file__, *map(str, (image_size, seed, *part))] for part in parts]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    images = b"".join(process.communicate()[0] for process in processes)
    for command, process in zip(commands, processes):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return np.frombuffer(images, np.uint8).reshape(-1, 3, image_size, image_size), factors


if __name__ == "__main__":
    sys.stdout.buffer.write(_draw_part(*map(int, sys.argv[1:])).tobytes())
