"""Synthetic digits: the data set that is always there, made in seconds without any file.

A digit is a few strokes on a 1 x 1 field, x to the right and y down; each image takes one of
its digit's shapes, bends every stroke's points a little, and draws them slanted, turned, squeezed,
moved, and with a pen of its own width.
"""

import numpy as np
from PIL import Image, ImageDraw

SIZE = 28  # pixels
SUPERSAMPLING = 4  # drawn this many times larger, then averaged, for smooth edges
POINTS_A_STROKE = 16


def _arc(x, y, width, height, start, stop, points=7):
    """Points on an ellipse around (x, y); angles in degrees, 0 = right, 90 = down."""
    angles = np.radians(np.linspace(start, stop, points))
    return [(x + width * np.cos(a), y + height * np.sin(a)) for a in angles]


# For each digit its shapes, for each shape its strokes, for each stroke the points of a smooth
# curve (a list) or of straight lines (a tuple).
# fmt: off
SHAPES = {
    0: [[_arc(.5, .5, .30, .42, -80, 280, 12)], [_arc(.5, .5, .22, .42, -110, 245, 12)]],
    1: [[((.5, .08), (.5, .92))], [((.32, .28), (.53, .08), (.53, .92))],
        [((.34, .26), (.52, .08), (.52, .92)), ((.30, .92), (.74, .92))]],
    2: [[_arc(.5, .32, .26, .24, -170, 40) + [(.45, .72), (.24, .90)], ((.24, .90), (.80, .90))],
        [_arc(.48, .30, .24, .22, -160, 50) + [(.40, .78), (.26, .86), (.28, .74), (.46, .80),
                                               (.62, .92), (.82, .84)]]],
    3: [[_arc(.46, .30, .25, .21, -150, 90), _arc(.46, .70, .29, .21, -90, 150)],
        [((.24, .10), (.74, .10), (.46, .44)), _arc(.46, .68, .28, .23, -90, 150)]],
    4: [[((.60, .08), (.20, .62), (.84, .62)), ((.64, .34), (.60, .94))],
        [[(.26, .10), (.24, .30), (.26, .48), (.50, .52), (.74, .46)], ((.76, .08), (.72, .94))]],
    5: [[((.76, .10), (.34, .10), (.30, .46)), [(.30, .46)] + _arc(.46, .66, .29, .25, -80, 140)]],
    6: [[[(.66, .08), (.42, .26), (.28, .52)] + _arc(.50, .70, .24, .21, 180, -170, 10)],
        [[(.58, .06), (.36, .34), (.27, .66)] + _arc(.48, .72, .21, .19, 170, -200, 10)]],
    7: [[((.22, .12), (.78, .12), (.42, .94))],
        [((.22, .14), (.76, .12), (.44, .94)), ((.34, .52), (.72, .52))],
        [[(.22, .22), (.28, .12), (.50, .14), (.78, .10)], [(.78, .10), (.56, .46), (.46, .94)]]],
    8: [[_arc(.5, .29, .21, .20, 90, 450, 10), _arc(.5, .71, .26, .22, -90, 270, 10)],
        [[(.70, .18), (.50, .08), (.30, .24), (.50, .46), (.70, .68), (.52, .92), (.30, .72),
          (.48, .48), (.68, .28), (.68, .16)]]],
    9: [[_arc(.48, .32, .23, .23, -20, -380, 10), [(.71, .24), (.70, .56), (.60, .94)]],
        [_arc(.48, .30, .22, .21, 0, -360, 10), ((.70, .28), (.68, .94))]],
}
# fmt: on


def _curve(stroke):
    """A stroke as (POINTS_A_STROKE, 2): Catmull-Rom through a list, straight through a tuple."""
    points = np.array(stroke, float)
    if isinstance(stroke, list) and len(points) > 2:
        padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
        t = np.linspace(0, 1, 8, endpoint=False)[:, None]
        a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
        squared, cubed = (2 * a - 5 * b + 4 * c - d) * t**2, (3 * b - a - 3 * c + d) * t**3
        pieces = 0.5 * (2 * b + (c - a) * t + squared + cubed)
        points = np.vstack([pieces.reshape(-1, 2), points[-1:]])
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    where = np.linspace(0, lengths[-1], POINTS_A_STROKE)
    return np.stack([np.interp(where, lengths, column) for column in points.T], axis=1)


CURVES = {
    digit: [[_curve(stroke) for stroke in shape] for shape in shapes]
    for digit, shapes in SHAPES.items()
}


def _bend(curve, rng):
    """Shake a stroke smoothly: two slow waves along it, a different pair in x and in y."""
    along = np.linspace(0, np.pi, len(curve))[:, None]
    size = rng.normal(0, (0.020, 0.016), (2, 2))
    phase = rng.uniform(0, 2 * np.pi, (2, 2))
    return curve + size[0] * np.sin(along + phase[0]) + size[1] * np.sin(2.5 * along + phase[1])


def _hand(rng):
    """One writer's matrix and offset: slant, rotation, width, height, position."""
    slant, angle = rng.normal(0.14, 0.20), rng.normal(0, 0.07)
    width, height = rng.uniform(0.62, 1.0) * 0.72, rng.uniform(0.86, 1.06) * 0.72
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, -slant], [0, 1]]) @ np.diag([width, height])
    return matrix, 0.5 + rng.normal(0, 0.022, 2)


def _draw(shape, rng):
    """One digit as a (SIZE, SIZE) uint8 array: white strokes on black, as in MNIST."""
    side = SIZE * SUPERSAMPLING
    matrix, middle = _hand(rng)
    radius = rng.uniform(0.030, 0.062) * side
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for curve in shape:
        points = ((_bend(curve, rng) - 0.5) @ matrix.T + middle) * side
        flat = [(float(x), float(y)) for x, y in points]
        pen.line(flat, fill=255, width=int(round(2 * radius)), joint="curve")
        for x, y in (flat[0], flat[-1]):  # round ends
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING))


def draw_digits(num_images, seed=0):
    """Draw handwritten-looking digits: images and labels, both uint8.

    Images are (num_images, 1, 28, 28), from black 0 to white 255.  The same seed gives the same
    images, bit for bit, however many are drawn after them.
    """
    rng = np.random.default_rng(seed)
    labels = np.empty(num_images, np.uint8)
    images = np.empty((num_images, 1, SIZE, SIZE), np.uint8)
    for i in range(num_images):
        labels[i] = rng.integers(10)
        shapes = CURVES[labels[i]]
        images[i, 0] = _draw(shapes[rng.integers(len(shapes))], rng)
    return images, labels
