"""Anime-style faces drawn by rule, with the factors that each was made from.

A face is drawn on a field whose middle is between the eyes: x to the right, y down, the picture 1 wide.
From the back to the front: background, back hair, shoulders, face, eyes, mouth, fringe, accessories, light.

As a script it draws a part of the faces in a process of its own and writes their bytes to standard output:

    python drawing_faces.py IMAGE_SIZE SEED START STOP
"""
import colorsys
import functools
import os
import subprocess
import sys

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["FACTORS", "draw_faces", "face_factors"]

SUPERSAMPLING = 4  # drawn this many times larger, then averaged, for smooth edges

HAIR = [(.07, .25, .22), (.62, .25, .20), (.06, .45, .38), (.07, .55, .55), (.10, .50, .78), (.13, .45, .92),
        (.95, .45, .88), (.02, .65, .66), (.06, .75, .90), (.60, .50, .58), (.56, .45, .80), (.75, .40, .62),
        (.80, .28, .86), (.38, .45, .58), (.60, .12, .84), (.93, .50, .50)]  # hue, saturation, value
SKIN = [(255, 236, 220), (255, 227, 205), (252, 214, 190), (240, 196, 164), (206, 154, 118)]

# Each factor is uniform: over whole numbers 0 ... n - 1 (choices, listed), or over an interval.
FACTORS = {
    "hair_style": ("short", "bob", "long", "wavy", "twin tails", "side tail"),
    "hair_colour": HAIR,
    "hair_shade": (-1.0, 1.0),
    "fringe": ("straight", "spiky", "parted", "swept left", "swept right"),
    "fringe_length": (-.05, .025),
    "face_width": (.235, .285),
    "chin": (.33, .39),
    "skin": SKIN,
    "eye_shape": ("round", "sharp", "drooping"),
    "eye_size": (.85, 1.18),
    "eye_distance": (.126, .144),
    "eye_hue": (0.0, 1.0),
    "eye_value": (.45, .85),
    "eye_open": (.62, 1.0),
    "gaze_x": (-.014, .014),
    "gaze_y": (-.008, .012),
    "highlights": ("one", "two", "three"),
    "brow_angle": (-.35, .35),
    "brow_height": (-.015, .02),
    "mouth": ("smile", "open", "small", "frown", "cat"),
    "mouth_width": (.035, .065),
    "blush": (0.0, 1.0),
    "accessory": ("none", "none", "ribbon", "hairpin", "glasses", "hairband", "cat ears", "earrings"),
    "accessory_hue": (0.0, 1.0),
    "clothes_hue": (0.0, 1.0),
    "clothes_value": (.25, .95),
    "background": ("white", "plain", "gradient", "spots"),
    "background_hue": (0.0, 1.0),
    "tilt": (-.24, .24),
    "turn": (-.045, .045),
    "shift_x": (-.035, .035),
    "shift_y": (-.03, .03),
    "zoom": (1.06, 1.32),
    "light": (-1.0, 1.0),
}


def _is_interval(values):
    return len(values) == 2 and isinstance(values[0], float)


def face_factors(num_images, seed=0):
    """The factors of the first faces of a seed.

    Returns
    -------
    numpy.ndarray, float32, shape (num_images, len(FACTORS))
        A column for each name in `FACTORS`: a position in its choices, or a number in its interval
        (lengths in widths of the picture, angles in radians, hues and values from 0 to 1).
    """
    uniform = np.random.default_rng(seed).random((num_images, len(FACTORS)))
    columns = [low_high[0] + u * (low_high[1] - low_high[0]) if _is_interval(low_high) else np.floor(u * len(low_high))
               for u, low_high in zip(uniform.T, FACTORS.values())]
    return np.stack(columns, axis=1).astype(np.float32)


def _rgb(hue, saturation, value):
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1)))


def _darker(colour, share):
    """A shade of a colour, a little colder; above 1 a tint of it."""
    if share > 1:
        return tuple(int(c + (255 - c) * (share - 1)) for c in colour)
    return tuple(int(c * share ** k) for c, k in zip(colour, (1.1, 1.1, .85)))


@functools.lru_cache(maxsize=None)
def _spline(num_points, closed, steps=5):
    """The matrix that turns points into a smooth curve through them (Catmull-Rom)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    basis = .5 * np.hstack([-t + 2 * t ** 2 - t ** 3, 2 - 5 * t ** 2 + 3 * t ** 3, t + 4 * t ** 2 - 3 * t ** 3, t ** 3 - t ** 2])
    segments = num_points if closed else num_points - 1
    matrix = np.zeros((segments * steps + (not closed), num_points))
    for i in range(segments):
        for column, weights in zip(range(i - 1, i + 3), basis.T):
            place = column % num_points if closed else min(max(column, 0), num_points - 1)
            matrix[i * steps:(i + 1) * steps, place] += weights
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def _smooth(points, closed=True):
    points = np.asarray(points, float)
    return _spline(len(points), closed) @ points


def _both_sides(points):
    """The right half of a shape, from top to bottom, and its mirror image from bottom to top."""
    return list(points) + [(-x, y) for x, y in points[::-1] if abs(x) > 1e-6]


@functools.lru_cache(maxsize=None)
def _circle(num_points=20):
    angle = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


class _Canvas:
    """A picture to draw on in the face's own coordinates."""

    def __init__(self, side, colour, face):
        self.side = side
        self.image = Image.new("RGB", (side, side), colour)
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        cos, sin = np.cos(face["tilt"]) * face["zoom"] * side, np.sin(face["tilt"]) * face["zoom"] * side
        self.matrix = np.array([[cos, sin], [-sin, cos]])
        self.offset = np.array([.5 + face["shift_x"], .52 + face["shift_y"]]) * side

    def place(self, points):
        return [(x, y) for x, y in (np.asarray(points) @ self.matrix + self.offset).tolist()]

    def fill(self, points, colour, outline=None, width=.008):
        points = self.place(points)
        self.pen.polygon(points, fill=colour)
        if outline:
            self.pen.line(points + points[:2], fill=outline, width=max(1, round(width * self.side)), joint="curve")

    def line(self, points, colour, width=.008):
        self.pen.line(self.place(points), fill=colour, width=max(1, round(width * self.side)), joint="curve")

    def spot(self, x, y, width, height, colour, outline=None):
        self.fill(_circle() * (width, height) + (x, y), colour, outline)


def _background(canvas, face, rng):
    hue, kind = face["background_hue"], FACTORS["background"][int(face["background"])]
    if kind == "gradient":
        top, bottom = _rgb(hue, .45, .80), _rgb(hue + .12, .15, 1)
        share = np.linspace(0, 1, canvas.side)[:, None, None]
        rows = (1 - share) * np.array(top) + share * np.array(bottom)
        canvas.image.paste(Image.fromarray(rows.astype(np.uint8)).resize((canvas.side, canvas.side)))
    if kind == "spots":
        for x, y, size in rng.uniform((0, 0, .04), (1, 1, .12), (7, 3)) * canvas.side:
            canvas.pen.ellipse((x - size, y - size, x + size, y + size), fill=_rgb(hue, .16, 1) + (170,))


def _background_colour(face):
    kind = FACTORS["background"][int(face["background"])]
    return {"white": (255, 255, 255), "plain": _rgb(face["background_hue"], .28, .86),
            "spots": _rgb(face["background_hue"], .32, .92)}.get(kind, (255, 255, 255))


def _back_hair(canvas, face, hair, dark, rng):
    style, w = FACTORS["hair_style"][int(face["hair_style"])], face["face_width"] + .075
    shade = _darker(hair, .80)
    tails = {"twin tails": (-1, 1), "side tail": (1,)}.get(style, ())
    for side in tails:
        sway = rng.uniform(-.03, .05)
        tail = [(.20, -.27), (.38, -.30), (.49 + sway, -.10), (.50 + sway, .20), (.43 + sway, .55), (.36 + sway, .30), (.33, .02), (.27, -.12)]
        canvas.fill(_smooth([(side * x, y) for x, y in tail]), shade, dark)
        canvas.line(_smooth([(side * x, y) for x, y in ((.30, -.22), (.41 + sway, 0), (.43 + sway, .40))], False), dark, .006)
    top = [(0, -.41), (w * .62, -.365), (w * .97, -.21), (w * 1.06, 0)]
    below = {"short": [(w * 1.08, .10), (w * .98, .22), (w * .80, .20), (w * .70, .30)],
             "bob": [(w * 1.14, .16), (w * 1.12, .30), (w * .92, .37), (w * .60, .35)],
             "long": [(w * 1.12, .20), (w * 1.16, .42), (w * 1.20, .62), (w * .30, .62)],
             "wavy": [(w * 1.22, .10), (w * 1.10, .20), (w * 1.34, .33), (w * 1.18, .46), (w * 1.36, .62), (w * .30, .62)],
             "twin tails": [(w * .98, .12), (w * .80, .20)], "side tail": [(w * 1.02, .14), (w * .80, .24)]}[style]
    canvas.fill(_smooth(_both_sides(top + below)), shade, dark)


def _shoulders(canvas, face, skin):
    clothes = _rgb(face["clothes_hue"], .55, face["clothes_value"])
    canvas.fill([(-.07, .25), (.07, .25), (.085, .47), (-.085, .47)], _darker(skin, .86))
    canvas.fill(_smooth(_both_sides([(0, .50), (.09, .41), (.24, .45), (.40, .55), (.46, .75), (0, .80)])),
                clothes, _darker(clothes, .6))
    canvas.fill([(-.10, .41), (0, .50), (.10, .41), (.06, .40), (0, .45), (-.06, .40)], _darker(clothes, 1.55))


def _head(canvas, face, skin, line):
    w, chin, turn = face["face_width"], face["chin"], face["turn"]
    for side in (-1, 1):
        canvas.spot(side * w * 1.0, .08, .035, .06, skin, line)
    outline = _both_sides([(0, -.30), (w * .80, -.22), (w, -.04), (w * .97, .11), (w * .76, .235), (w * .34, chin - .035), (0, chin)])
    outline = [(x + turn * .5 * (y > .2), y) for x, y in outline]
    canvas.fill(_smooth(outline), skin, line, .007)
    canvas.fill(_smooth(_both_sides([(0, -.28), (w * .92, -.16), (w * .97, .0), (w * .6, -.045), (0, -.035)])), _darker(skin, .84) + (150,))
    if face["blush"] > .4:
        for side in (-1, 1):
            canvas.spot(side * .155 + turn, .165, .055, .026, (255, 120, 120, int(95 * face["blush"])))
    canvas.line([(turn * 1.5 - .004, .155), (turn * 1.5 + .006, .172)], _darker(skin, .62), .008)


def _eye(canvas, face, side, line):
    shape = FACTORS["eye_shape"][int(face["eye_shape"])]
    x, y, size = side * face["eye_distance"] + face["turn"], .075, face["eye_size"]
    width, height = .082 * size, {"round": .086, "sharp": .064, "drooping": .074}[shape] * size * face["eye_open"]
    slant = {"round": 0, "sharp": -.016, "drooping": .014}[shape]  # of the outer corner

    def at(u, v):  # u towards the ear
        return x + side * u * width, y + v * height + (slant * (u + 1) / 2)

    white = _smooth([at(-.95, .15), at(-.55, -.75), at(.1, -1.0), at(.75, -.70), at(1.0, .0), at(.7, .75), at(0, 1.0), at(-.65, .80)])
    canvas.fill(white, (255, 255, 255))
    hue, value = face["eye_hue"], face["eye_value"]
    ix, iy = x + face["gaze_x"], y + face["gaze_y"] + slant / 2
    tall = min(height * .98, .080 * size)
    broad = width * .66
    canvas.spot(ix, iy, broad, tall, _rgb(hue, .80, value * .42))
    canvas.spot(ix, iy + tall * .22, broad * .80, tall * .72, _rgb(hue, .72, value))
    canvas.spot(ix, iy + tall * .55, broad * .52, tall * .32, _rgb(hue, .38, min(1, value + .3)))
    canvas.spot(ix, iy, broad * .38, tall * .45, _rgb(hue, .8, value * .18))
    lid = [at(-1.05, .05), at(-.60, -.80), at(.1, -1.08), at(.80, -.74), at(1.18, .08)]
    canvas.fill(np.vstack([_smooth(lid, False), _smooth([at(1.0, -.05), at(.70, -.52), at(.1, -.78), at(-.5, -.58)], False)]), line)
    canvas.line(_smooth([at(.75, .72), at(.2, 1.02), at(-.4, .96)], False), line, .007)
    bright = (255, 255, 255)
    for dx, dy, r in ((-.30, -.38, .30), (.32, .42, .17), (.34, -.42, .12))[:int(face["highlights"]) + 1]:
        canvas.spot(ix + dx * broad, iy + dy * tall, r * broad * 1.1, r * tall, bright)
    tilt = face["brow_angle"]
    brow = [(-.9, tilt), (-.1, -.25), (.95, -tilt * .8)]
    height = y - .128 + face["brow_height"]
    canvas.line(_smooth([(x + side * u * .070, height + v * .05) for u, v in brow], False), line, .011)


def _mouth(canvas, face, line):
    x, y, w = face["turn"] * 1.2, .245, face["mouth_width"]
    kind = FACTORS["mouth"][int(face["mouth"])]
    red = (200, 84, 84)
    if kind == "open":
        lips = [(x - w, y - .012), (x, y - .004), (x + w, y - .012), (x + w * .62, y + .040), (x, y + .055), (x - w * .62, y + .040)]
        canvas.fill(_smooth(lips), (160, 50, 58), line)
        canvas.spot(x, y + .040, w * .42, .012, (240, 130, 130))
    elif kind == "small":
        canvas.spot(x, y + .004, w * .32, .013, red, line)
    else:
        curve = {"smile": [(-1, -.012), (0, .012), (1, -.012)], "frown": [(-1, .010), (0, -.006), (1, .010)],
                 "cat": [(-1, -.010), (-.5, .008), (0, -.006), (.5, .008), (1, -.010)]}[kind]
        canvas.line(_smooth([(x + u * w, y + v) for u, v in curve], False), line, .010)


def _fringe(canvas, face, hair, dark, rng):
    kind, w = FACTORS["fringe"][int(face["fringe"])], face["face_width"] + .055
    number = {"straight": 7, "spiky": 6}.get(kind, 5)
    at = np.linspace(-1, 1, number + 1)
    middles = (at[1:] + at[:-1]) / 2 + rng.uniform(-.05, .05, number)
    tip = {"straight": 0 * middles, "spiky": rng.uniform(-.02, .035, number), "parted": .075 * np.abs(middles) ** .7 - .095 * (1 - np.abs(middles)),
           "swept left": -.055 * middles, "swept right": .055 * middles}[kind] + face["fringe_length"] + rng.uniform(-.008, .008, number)
    depth = {"straight": .035, "spiky": .13}.get(kind, .095)
    lean = {"swept left": -.05, "swept right": .05}.get(kind, 0)
    lower = []
    for i in range(number):
        lower.append((middles[i] * w + lean, tip[i]))
        if i < number - 1:
            lower.append((at[i + 1] * w, (tip[i] + tip[i + 1]) / 2 - depth))
    cap = [(-w, .03), (-w * 1.02, -.14), (-w * .82, -.285), (-w * .42, -.375), (0, -.40),
           (w * .42, -.375), (w * .82, -.285), (w * 1.02, -.14), (w, .03)]
    shape = np.vstack([_smooth(cap, False), lower[::-1]])
    canvas.fill(shape, hair, dark)
    for side in (-1, 1):  # locks in front of the ears
        end = rng.uniform(.20, .34)
        lock = [(w * 1.03, -.16), (w * 1.08, .05), (w * 1.0, end), (w * .90, .12), (w * .88, -.06)]
        canvas.fill(_smooth([(side * x, y) for x, y in lock]), hair, dark)
    crown = rng.uniform(-.03, .03)
    for x, y in lower[1::2]:
        canvas.line(_smooth([(x, y), (x * .92, y - .10), (x * .5 + crown, -.36)], False), _darker(hair, .74), .006)
    for i in range(0, number, 2):  # every other strand in a shade of its own
        x, y = lower[2 * i]
        strand = [(at[i] * w * .98, -.16), (x, y), (at[i + 1] * w * .98, -.16), (middles[i] * w * .6 + crown, -.34)]
        canvas.fill(_smooth(strand), _darker(hair, 1.12) + (150,))
    number = 7
    upper = [(u * w * .78, -.25 + .07 * u * u) for u in np.linspace(-1, 1, number)]
    spikes = [(u * w * .78, -.235 + .07 * u * u + (.045 if i % 2 else .008)) for i, u in enumerate(np.linspace(-1, 1, 2 * number - 1))]
    canvas.fill(np.vstack([_smooth(upper, False), spikes[::-1]]), _darker(hair, 1.45) + (130,))


def _accessory(canvas, face, hair, dark):
    kind, w = FACTORS["accessory"][int(face["accessory"])], face["face_width"]
    colour = _rgb(face["accessory_hue"], .75, .90)
    edge = _darker(colour, .55)
    if kind == "ribbon":
        for side in (-1, 1):
            canvas.fill(_smooth([(.20, -.33), (.20 + side * .13, -.43), (.20 + side * .14, -.25)]), colour, edge)
        canvas.spot(.20, -.335, .028, .03, colour, edge)
    elif kind == "hairpin":
        for dy in (0, .045):
            canvas.line([(-w * .95, -.17 + dy), (-w * .55, -.21 + dy)], edge, .034)
            canvas.line([(-w * .95, -.17 + dy), (-w * .55, -.21 + dy)], colour, .022)
    elif kind == "hairband":
        arc = [(u * (w + .07), -.31 + .16 * u * u) for u in np.linspace(-1, 1, 7)]
        canvas.line(_smooth(arc, False), edge, .048)
        canvas.line(_smooth(arc, False), colour, .034)
    elif kind == "cat ears":
        for side in (-1, 1):
            ear = np.array([(.30, -.24), (.29, -.49), (.08, -.38)]) * (side, 1)
            canvas.fill(ear, hair, dark)
            canvas.fill((ear - ear.mean(0)) * .55 + ear.mean(0), (250, 190, 190))
    elif kind == "glasses":
        for side in (-1, 1):
            middle = (side * face["eye_distance"] + face["turn"], .085)
            rim = _circle() * (.106, .088) + middle
            canvas.fill(rim, (255, 255, 255, 40))
            canvas.line(np.vstack([rim, rim[:2]]), edge, .011)
        canvas.line([(face["turn"] - .03, .075), (face["turn"] + .03, .075)], edge, .011)
    elif kind == "earrings":
        for side in (-1, 1):
            canvas.spot(side * (w + .012), .165, .022, .03, colour, edge)


def _lit(image, light):
    """Brighter on one side, darker on the other, as from a lamp."""
    pixels = np.asarray(image, np.float32)
    ramp = 1 + .12 * light * np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)[:, None]
    return np.clip(pixels * ramp, 0, 255).astype(np.uint8)


def _draw(factors, image_size, rng):
    """One face as (3, image_size, image_size) uint8."""
    face = dict(zip(FACTORS, factors.tolist()))
    hue, saturation, value = HAIR[int(face["hair_colour"])]
    hair = _rgb(hue + .015 * face["hair_shade"], saturation, value * (1 + .12 * face["hair_shade"]))
    skin = SKIN[int(face["skin"])]
    dark, line = _darker(hair, .50), _darker(_darker(hair, .35), .9)
    canvas = _Canvas(image_size * SUPERSAMPLING, _background_colour(face), face)
    _background(canvas, face, rng)
    _back_hair(canvas, face, hair, dark, rng)
    _shoulders(canvas, face, skin)
    _head(canvas, face, skin, _darker(skin, .60))
    for side in (-1, 1):
        _eye(canvas, face, side, line)
    _mouth(canvas, face, _darker(skin, .45))
    _fringe(canvas, face, hair, dark, rng)
    _accessory(canvas, face, hair, dark)
    return _lit(canvas.image.reduce(SUPERSAMPLING), face["light"]).transpose(2, 0, 1)


def _draw_part(image_size, seed, start, stop):
    """Faces `start` to `stop` of a seed; each has its own random numbers, whoever draws it."""
    factors = face_factors(stop, seed)
    return np.stack([_draw(factors[i], image_size, np.random.default_rng([seed, i])) for i in range(start, stop)])


def draw_faces(num_images, seed=0, image_size=64):
    """Draw anime-style faces, on all cores.

    Parameters
    ----------
    num_images : int
        How many.
    seed : int
        The same seed gives the same pictures, bit for bit, however many are drawn after them.
    image_size : int
        Height and width.

    Returns
    -------
    pictures : numpy.ndarray, uint8, shape (num_images, 3, image_size, image_size)
    factors : numpy.ndarray, float32, shape (num_images, len(FACTORS))
        From :func:`face_factors`.

    Raises
    ------
    subprocess.CalledProcessError
        A part's process failed; its own message is on standard error.
    """
    cores = (os.cpu_count() or 1) if num_images > 500 else 1
    bounds = np.linspace(0, num_images, cores + 1).astype(int)
    parts = [(start, stop) for start, stop in zip(bounds, bounds[1:]) if stop > start]
    if len(parts) == 1:
        return _draw_part(image_size, seed, 0, num_images), face_factors(num_images, seed)
    commands = [[sys.executable, __file__, *map(str, (image_size, seed, *part))] for part in parts]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    pictures = b"".join(process.communicate()[0] for process in processes)
    for command, process in zip(commands, processes):
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return np.frombuffer(pictures, np.uint8).reshape(-1, 3, image_size, image_size), face_factors(num_images, seed)


if __name__ == "__main__":
    sys.stdout.buffer.write(_draw_part(*map(int, sys.argv[1:])).tobytes())
