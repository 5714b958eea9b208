"""Images drawn by rule: the data set that is always there, made in seconds without any file.

A digit is a few strokes on a 1 x 1 field, x to the right and y down; each image takes one of
its digit's shapes, bends every stroke's points a little, and draws them slanted, turned, squeezed,
moved, and with a pen of its own width.
"""

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["draw_digits"]

SIZE = 28  # pixels
SUPERSAMPLING = 4  # drawn this many times larger, then averaged, for smooth edges
POINTS_A_STROKE = 16


def _arc(x, y, width, height, start, stop, points=7):
    """Points on an ellipse around (x, y); angles in degrees, 0 = right, 90 = down."""
    angles = np.radians(np.linspace(start, stop, points))
    return [(x + width * np.cos(a), y + height * np.sin(a)) for a in angles]


# For each digit its shapes, for each shape its strokes, for each stroke the points of a smooth
# curve (a list) or of straight lines (a tuple).
SHAPES = {
    0: [[_arc(0.5, 0.5, 0.30, 0.42, -80, 280, 12)], [_arc(0.5, 0.5, 0.22, 0.42, -110, 245, 12)]],
    1: [
        [((0.5, 0.08), (0.5, 0.92))],
        [((0.32, 0.28), (0.53, 0.08), (0.53, 0.92))],
        [((0.34, 0.26), (0.52, 0.08), (0.52, 0.92)), ((0.30, 0.92), (0.74, 0.92))],
    ],
    2: [
        [
            _arc(0.5, 0.32, 0.26, 0.24, -170, 40) + [(0.45, 0.72), (0.24, 0.90)],
            ((0.24, 0.90), (0.80, 0.90)),
        ],
        [
            _arc(0.48, 0.30, 0.24, 0.22, -160, 50)
            + [(0.40, 0.78), (0.26, 0.86), (0.28, 0.74), (0.46, 0.80), (0.62, 0.92), (0.82, 0.84)]
        ],
    ],
    3: [
        [_arc(0.46, 0.30, 0.25, 0.21, -150, 90), _arc(0.46, 0.70, 0.29, 0.21, -90, 150)],
        [((0.24, 0.10), (0.74, 0.10), (0.46, 0.44)), _arc(0.46, 0.68, 0.28, 0.23, -90, 150)],
    ],
    4: [
        [((0.60, 0.08), (0.20, 0.62), (0.84, 0.62)), ((0.64, 0.34), (0.60, 0.94))],
        [
            [(0.26, 0.10), (0.24, 0.30), (0.26, 0.48), (0.50, 0.52), (0.74, 0.46)],
            ((0.76, 0.08), (0.72, 0.94)),
        ],
    ],
    5: [
        [
            ((0.76, 0.10), (0.34, 0.10), (0.30, 0.46)),
            [(0.30, 0.46)] + _arc(0.46, 0.66, 0.29, 0.25, -80, 140),
        ]
    ],
    6: [
        [[(0.66, 0.08), (0.42, 0.26), (0.28, 0.52)] + _arc(0.50, 0.70, 0.24, 0.21, 180, -170, 10)],
        [[(0.58, 0.06), (0.36, 0.34), (0.27, 0.66)] + _arc(0.48, 0.72, 0.21, 0.19, 170, -200, 10)],
    ],
    7: [
        [((0.22, 0.12), (0.78, 0.12), (0.42, 0.94))],
        [((0.22, 0.14), (0.76, 0.12), (0.44, 0.94)), ((0.34, 0.52), (0.72, 0.52))],
        [
            [(0.22, 0.22), (0.28, 0.12), (0.50, 0.14), (0.78, 0.10)],
            [(0.78, 0.10), (0.56, 0.46), (0.46, 0.94)],
        ],
    ],
    8: [
        [_arc(0.5, 0.29, 0.21, 0.20, 90, 450, 10), _arc(0.5, 0.71, 0.26, 0.22, -90, 270, 10)],
        [
            [
                (0.70, 0.18),
                (0.50, 0.08),
                (0.30, 0.24),
                (0.50, 0.46),
                (0.70, 0.68),
                (0.52, 0.92),
                (0.30, 0.72),
                (0.48, 0.48),
                (0.68, 0.28),
                (0.68, 0.16),
            ]
        ],
    ],
    9: [
        [_arc(0.48, 0.32, 0.23, 0.23, -20, -380, 10), [(0.71, 0.24), (0.70, 0.56), (0.60, 0.94)]],
        [_arc(0.48, 0.30, 0.22, 0.21, 0, -360, 10), ((0.70, 0.28), (0.68, 0.94))],
    ],
}


def _curve(stroke):
    """A stroke as POINTS_A_STROKE points along it: Catmull-Rom through a list, straight through a tuple."""
    points = np.array(stroke, float)
    if isinstance(stroke, list) and len(points) > 2:
        padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
        t = np.linspace(0, 1, 8, endpoint=False)[:, None]
        pieces = [
            0.5
            * (
                2 * b
                + (c - a) * t
                + (2 * a - 5 * b + 4 * c - d) * t**2
                + (3 * b - a - 3 * c + d) * t**3
            )
            for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:])
        ]
        points = np.vstack(pieces + [points[-1:]])
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
    """Draw handwritten-looking digits.

    Parameters
    ----------
    num_images : int
        How many.
    seed : int
        The same seed gives the same images, bit for bit, however many are drawn after them.

    Returns
    -------
    images : numpy.ndarray, uint8, shape (num_images, 1, 28, 28)
        Black 0, white 255.
    labels : numpy.ndarray, uint8, shape (num_images,)
        Which digit each is.
    """
    rng = np.random.default_rng(seed)
    labels = np.empty(num_images, np.uint8)
    images = np.empty((num_images, 1, SIZE, SIZE), np.uint8)
    for i in range(num_images):
        labels[i] = rng.integers(10)
        shapes = CURVES[labels[i]]
        images[i, 0] = _draw(shapes[rng.integers(len(shapes))], rng)
    return images, labels
