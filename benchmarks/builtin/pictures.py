"""The pictures that embcam's built-in weights were made from: drawn ones, and places of ten photographs that Python packages carry.

`Scenes()(n, size)` gives n of them, (n, 3, size, size), normalised as ImageNet's. Nothing here is a photograph of a product, or looks at
DeepPCB or at embcam's logos.
"""

import importlib.util
import math
import random
import string
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# small helpers
def uniform(lo, hi, *shape):
    return torch.rand(shape) * (hi - lo) + lo


def loguniform(lo, hi, *shape):
    return torch.exp(uniform(math.log(lo), math.log(hi), *shape))


def coin(p, *shape):
    return torch.rand(shape) < p


def choose(kind, *options):
    "For each picture the option that kind (n, 1, 1) names"
    shape = torch.broadcast_shapes(kind.shape, *(o.shape for o in options))
    return torch.stack([o.expand(shape) for o in options]).gather(0, kind.expand(shape)[None])[0]


def grid(size, width=None):
    "Coordinates -1 to 1 of a square's pixels: y, x"
    y, x = torch.linspace(-1, 1, size), torch.linspace(-1, 1, width or size)
    return torch.meshgrid(y, x, indexing="ij")


def turned(n, size, stretch=1.0):
    "Coordinates of n squares, each turned by its own angle, in half-squares"
    yy, xx = grid(size)
    a = uniform(0, 2 * math.pi, n, 1, 1)
    return (xx * a.cos() - yy * a.sin()) * stretch, (xx * a.sin() + yy * a.cos()) / stretch


def norm01(x):
    "Each channel to 0..1 by its own deviation, softly"
    m, s = x.mean((-2, -1), keepdim=True), x.std((-2, -1), keepdim=True) + 1e-6
    return torch.sigmoid(1.8 * (x - m) / s)


def colour(g, g2=None):
    "Grey pictures (n, s, s) to colour: a path through three random colours, a second picture tinting it"
    n = len(g)
    a, b, c = (torch.rand(n, 3, 1, 1) for _ in range(3))
    g = g[:, None]
    x = torch.where(g < 0.5, a + (b - a) * 2 * g, b + (c - b) * (2 * g - 1)) if random.random() < 0.5 else a + (b - a) * g
    return x if g2 is None else x + (g2[:, None] - 0.5) * torch.randn(n, 3, 1, 1) * 0.3


# textures, (n, 3, size, size) in 0..1
def noise(n, size, channels=1):
    "Fractal noise of random roughness, stretched and turned by chance"
    fy, fx = torch.meshgrid(torch.fft.fftfreq(size), torch.fft.rfftfreq(size), indexing="ij")
    a = uniform(0, math.pi, n, 1, 1)
    s = torch.where(coin(0.5, n, 1, 1), loguniform(1, 12, n, 1, 1), torch.ones(n, 1, 1))
    r = (((fx * a.cos() - fy * a.sin()) * s) ** 2 + ((fx * a.sin() + fy * a.cos()) / s) ** 2).sqrt() + 1 / size
    band = torch.where(
        coin(0.3, n, 1, 1),
        torch.exp(-(((r / loguniform(0.02, 0.3, n, 1, 1)).log() / 0.35) ** 2)),
        r ** -uniform(0.6, 2.4, n, 1, 1),
    )
    z = torch.fft.irfft2(torch.complex(*torch.randn(2, n, channels, size, size // 2 + 1)) * band[:, None], s=(size, size))
    return (z - z.mean((-2, -1), keepdim=True)) / (z.std((-2, -1), keepdim=True) + 1e-9)


def fractals(n, size):
    "Clouds, ridges, camouflage, contour bands and brushed metal"
    z = noise(n, size, 2)
    g, kind = z[:, 0], torch.randint(0, 5, (n, 1, 1))
    g = choose(
        kind,
        norm01(g),
        norm01(-g.abs()),
        torch.sigmoid(g * 25),
        0.5 + 0.5 * torch.sin(g * loguniform(2, 12, n, 1, 1)),
        norm01(g.exp()),
    )
    return colour(g, norm01(z[:, 1]))


def networks(n, size, hidden=24):
    "Pictures of small random coordinate networks"
    u, v = turned(n, size)
    f = loguniform(1, 9, n, 1, 1)
    u, v = (u + torch.randn(n, 1, 1)) * f, (v + torch.randn(n, 1, 1)) * f
    r = (u * u + v * v).sqrt()
    x = torch.stack(
        [u, v, r, (3 * u).sin(), (3 * v).sin(), (5 * r).cos(), (2 * (u + v)).sin(), (7 * u).cos() * (7 * v).cos()], -1
    ).reshape(n, -1, 8)
    kind = torch.randint(0, 4, (n, 1, hidden))

    def act(h):
        return choose(kind, (3 * h).sin(), (4 * h).tanh(), h.abs() - 0.7, (h > 0) * 1.4 - 0.7)

    h = act(x @ (torch.randn(n, 8, hidden) * 0.57) + torch.randn(n, 1, hidden))
    h = act(h @ (torch.randn(n, hidden, hidden) * 1.9 / hidden**0.5))
    return torch.sigmoid(2 * h @ (torch.randn(n, hidden, 3) * 1.6 / hidden**0.5)).reshape(n, size, size, 3).permute(0, 3, 1, 2)


def gratings(n, size):
    "Stripes, checks, dots, bricks and woven cloth, a little uneven"
    u, v = turned(n, size, loguniform(0.6, 1.6, n, 1, 1))
    f = loguniform(4, 60, n, 1, 1)
    w = noise(n, size, 2) * loguniform(0.02, 1.0, n, 1, 1, 1)
    u, v = u * f + w[:, 0], v * f + w[:, 1]
    sharp, kind = loguniform(0.7, 30, n, 1, 1), torch.randint(0, 6, (n, 1, 1))
    a, b = u.sin(), v.sin()
    over = ((u / math.pi).floor() + (v / math.pi).floor()) % 2 == 0
    row = (v / math.pi).floor() % 2
    brick = torch.minimum((u + row * math.pi / 2).sin().abs(), b.abs()) - uniform(0.05, 0.4, n, 1, 1)
    woven = torch.where(over, b.abs(), a.abs()) - 0.5
    g = choose(kind, a, a * b, a + b - uniform(-1, 1, n, 1, 1), brick * 2, woven, a + (u * 2.7).sin() * 0.5 * b)
    return colour(torch.sigmoid(g * sharp), norm01(noise(n, size)[:, 0]))


def cells(n, size):
    "Cells around random points: gravel, leather, cracked paint, grains of metal"
    k = random.choice([12, 24, 48, 80])
    yy, xx = grid(size)
    p = uniform(-1.1, 1.1, n, k, 2)
    warp = noise(n, size, 2) * uniform(0, 0.04, n, 1, 1, 1)
    q = torch.stack([xx + warp[:, 0], yy + warp[:, 1]], -1).reshape(n, -1, 2)
    d, i = torch.cdist(q, p).topk(2, largest=False)
    edge = (d[..., 1] - d[..., 0]) * k**0.5
    tint = torch.rand(n, k, 3) * uniform(0.1, 1, n, 1, 1) + uniform(0, 0.5, n, 1, 3)
    x = tint.gather(1, i[..., :1].expand(-1, -1, 3))
    gap, shade = (edge * uniform(3, 40, n, 1)).clamp(0, 1)[..., None], 1 - (d[..., :1] * k**0.5) * uniform(-0.2, 0.6, n, 1, 1)
    x = (torch.rand(n, 1, 3) * (1 - gap) + x * gap) * torch.where(coin(0.6, n, 1, 1), shade, torch.ones(()))
    return x.reshape(n, size, size, 3).permute(0, 3, 1, 2).clamp(0, 1)


def ferns(n, size, steps=40, points=3000):
    "Fractals of random contracting maps, as density (n, size, size) in 0..1"
    maps = random.randint(2, 5)
    a = torch.randn(n, maps, 2, 2)
    a = a / torch.linalg.matrix_norm(a, 2)[..., None, None] * uniform(0.35, 0.9, n, maps, 1, 1)
    b = uniform(-1, 1, n, maps, 2)
    p, seen, rows = torch.zeros(n, points, 2), [], torch.arange(n)[:, None]
    for t in range(steps):
        k = torch.randint(0, maps, (n, points))
        p = (a[rows, k] @ p[..., None])[..., 0] + b[rows, k]
        if t > 6:
            seen.append(p)
    p = torch.cat(seen, 1)
    lo, hi = p.amin(1, keepdim=True), p.amax(1, keepdim=True)
    q = ((p - lo) / (hi - lo + 1e-6) * (size - 1)).long()
    flat = q[..., 1] * size + q[..., 0]
    count = torch.zeros(n, size * size).scatter_add_(1, flat, torch.ones(flat.shape))
    return (count.log1p() / 3).clamp(0, 1).reshape(n, size, size)


def leaves_of(n, size):
    g = F.avg_pool2d(ferns(n, size)[:, None], 3, 1, 1)[:, 0] if random.random() < 0.5 else ferns(n, size)
    return colour(g, norm01(noise(n, size)[:, 0]))


def relief(n, size):
    "A surface of heights under a lamp: embossing, dents, cast metal, skin"
    h = random.choice(
        [
            lambda: noise(n, size)[:, 0],
            lambda: gratings(n, size).mean(1) * 2,
            lambda: cells(n, size).mean(1) * 2,
            lambda: networks(n, size).mean(1) * 2,
            lambda: F.avg_pool2d(noise(n, size).sign(), 9, 1, 4)[:, 0],
        ]
    )()
    gy, gx = torch.gradient(h * loguniform(1, 12, n, 1, 1), dim=(1, 2))
    a, up = uniform(0, 2 * math.pi, n, 1, 1), uniform(0.3, 1.5, n, 1, 1)
    light = (gx * a.cos() + gy * a.sin() + up) / ((gx**2 + gy**2 + 1) * (1 + up**2)).sqrt()
    base = colour(norm01(noise(n, size)[:, 0])) * uniform(0, 1, n, 1, 1, 1) + torch.rand(n, 3, 1, 1) * 0.6
    return base * light.clamp(0.05, 1)[:, None] * 1.2 + (light.clamp(0, 1)[:, None] ** 20) * uniform(0, 0.8, n, 1, 1, 1)


PHOTOGRAPHS = (
    "skimage/data/astronaut.png skimage/data/camera.png skimage/data/cell.png skimage/data/chelsea.png skimage/data/coffee.png skimage/data/retina.jpg "
    "skimage/data/rocket.jpg sklearn/datasets/images/china.jpg sklearn/datasets/images/flower.jpg matplotlib/mpl-data/sample_data/grace_hopper.jpg"
).split()


@cache
def photographs():
    "Ten photographs that scikit-image, scikit-learn and matplotlib carry (3, h, w) in 0..1: one picture goes far (arXiv 2112.00725)"
    files = [Path(importlib.util.find_spec(name.split("/")[0]).origin).parent.parent / name for name in PHOTOGRAPHS]
    return [
        torch.from_numpy(np.array(Image.open(f).convert("RGB"))).permute(2, 0, 1).to(torch.get_default_device()) / 255
        for f in files
    ]


def photos(n, size):
    "Places of photographs, near and far, now and then in other colours"
    out = []
    for _ in range(n):
        im = random.choice(photographs())
        s = int(math.exp(random.uniform(math.log(64), math.log(min(im.shape[1:])))))
        i, j = (random.randint(0, d - s) for d in im.shape[1:])
        x = F.interpolate(im[None, :, i : i + s, j : j + s], (size, size), mode="bicubic", antialias=s > size)[0]
        if random.random() < 0.3:
            x = x[torch.randperm(3)]
        out.append(1 - x if random.random() < 0.1 else x)
    return torch.stack(out)


TEXTURES = [fractals, networks, gratings, cells, leaves_of, relief, photos, photos, photos, photos]


def textures(n, size):
    "n textures of mixed kinds, as uint8"
    parts = [random.choice(TEXTURES)(4, size) for _ in range((n + 3) // 4)]
    return (torch.cat(parts)[:n].clamp(0, 1) * 255).byte()


# prints and shapes, masks (1, size, size) uint8
def fonts():
    return sorted(
        f for f in font_manager.findSystemFonts([str(Path(matplotlib.get_data_path()) / "fonts/ttf")]) if "matplotlib" in f
    )


def word():
    return "".join(random.choice(string.ascii_letters + string.digits + "&%#@?!+=*/.,-") for _ in range(random.randint(1, 9)))


def print_page(d, s, faces):
    "Words, in one face and size per page or in many"
    face, size = random.choice(faces), int(math.exp(random.uniform(math.log(s / 40), math.log(s / 2.5))))
    y = -size * 0.3
    font = ImageFont.truetype(face, size)
    while y < s:
        if random.random() < 0.1:
            font = ImageFont.truetype(random.choice(faces), size)
        d.text(
            (random.uniform(-0.1, 0.3) * s, y), " ".join(word() for _ in range(1 + int(2 * s / size / 5))), fill=255, font=font
        )
        y += size * random.uniform(1, 1.5)


def print_traces(d, s, _):
    "Conductors: parallel runs that bend by 45 or 90 degrees, with pads and holes"
    pitch = random.uniform(s / 40, s / 8)
    w = max(1, int(pitch * random.uniform(0.25, 0.7)))
    diagonal = random.random() < 0.6
    for _ in range(random.randint(2, 7)):
        x, y, way = random.uniform(0, s), random.uniform(0, s), random.randrange(8)
        pts, turns = [(x, y)], random.randint(1, 5)
        for _ in range(turns):
            way = (way + random.choice([-1, 1] if diagonal else [-2, 2])) % 8
            step = random.uniform(0.1, 0.6) * s
            x, y = x + step * math.cos(way * math.pi / 4), y + step * math.sin(way * math.pi / 4)
            pts.append((x, y))
        for k in range(random.randint(1, 6)):
            shifted = [(p + k * pitch * math.cos(1), q + k * pitch * math.sin(1)) for p, q in pts]
            d.line(shifted, fill=255, width=w, joint="curve")
            for p, q in (shifted[0], shifted[-1]):
                if random.random() < 0.5:
                    pad(d, p, q, w)


def print_routes(d, s, _):
    "Conductors on a lattice that never touch, each from pad to pad"
    p = random.uniform(s / 22, s / 8)
    w = max(2, int(p * random.uniform(0.3, 0.65)))
    k = int(s / p) + 1
    taken, ways = set(), [(1, 0), (0, 1), (-1, 0), (0, -1)]
    square = random.random() < 0.3
    for _ in range(k * k // 3):
        at, way = (random.randrange(k), random.randrange(k)), random.randrange(4)
        if at in taken:
            continue
        path = [at]
        taken.add(at)
        straight = random.uniform(0.6, 0.95)
        for _ in range(random.randint(0, 3 * k)):
            if random.random() > straight:
                way = (way + random.choice([-1, 1])) % 4
            nxt = (path[-1][0] + ways[way][0], path[-1][1] + ways[way][1])
            if nxt in taken or not (-1 <= nxt[0] <= k and -1 <= nxt[1] <= k):
                break
            path.append(nxt)
            taken.add(nxt)
        pts = [(x * p, y * p) for x, y in path]
        if len(pts) > 1:
            d.line(pts, fill=255, width=w, joint="curve")
        for x, y in {pts[0], pts[-1]}:
            r = w * (1.0 if square else random.uniform(0.7, 0.95))
            box = (x - r, y - r, x + r, y + r)
            d.rectangle(box, fill=255) if square else d.ellipse(box, fill=255)
            if not square and random.random() < 0.3:
                d.ellipse((x - r / 2.5, y - r / 2.5, x + r / 2.5, y + r / 2.5), fill=0)


def pad(d, x, y, w):
    r = w * random.uniform(0.6, 1.8)
    box = (x - r, y - r, x + r, y + r)
    d.ellipse(box, fill=255) if random.random() < 0.7 else d.rectangle(box, fill=255)
    if random.random() < 0.5:
        d.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=0)


def print_strokes(d, s, _):
    "Pen strokes, arcs and scratches"
    for _ in range(random.randint(3, 25)):
        x, y, a, w = (
            random.uniform(0, s),
            random.uniform(0, s),
            random.uniform(0, 7),
            max(1, int(math.exp(random.uniform(0, math.log(s / 20))))),
        )
        bend, step = random.gauss(0, 0.15), random.uniform(0.005, 0.06) * s
        pts = [(x, y)]
        for _ in range(random.randint(1, 20)):
            a += bend + random.gauss(0, 0.05)
            x, y = x + step * math.cos(a), y + step * math.sin(a)
            pts.append((x, y))
        d.line(pts, fill=random.choice([255, 255, 0]), width=w, joint="curve")


def print_shapes(d, s, _):
    "Discs, rings, boxes, polygons and stars, some cut out again"
    for _ in range(random.randint(1, 14)):
        x, y, r = random.uniform(0, s), random.uniform(0, s), s * math.exp(random.uniform(-4.5, -1))
        fill, kind = random.choice([255, 255, 0]), random.randrange(5)
        box = (x - r * random.uniform(0.3, 1), y - r * random.uniform(0.3, 1), x + r, y + r)
        if kind == 0:
            d.ellipse(box, fill=fill)
        elif kind == 1:
            d.ellipse(box, outline=fill, width=max(1, int(r * random.uniform(0.05, 0.5))))
        elif kind == 2:
            d.rounded_rectangle(
                box,
                radius=r * random.uniform(0, 0.6),
                fill=fill if random.random() < 0.6 else None,
                outline=255,
                width=max(1, int(r * 0.1)),
            )
        else:
            k, a0, spike = random.randint(3, 9), random.uniform(0, 7), random.choice([1, 1, 0.5, 0.3])
            d.polygon(
                [
                    (
                        x + r * (spike if i % 2 else 1) * math.cos(a0 + i * math.pi / k),
                        y + r * (spike if i % 2 else 1) * math.sin(a0 + i * math.pi / k),
                    )
                    for i in range(2 * k)
                ],
                fill=fill,
            )


def print_grid(d, s, faces):
    "A shape or a glyph repeated in rows: keys, pins, perforation, a barcode"
    p = random.uniform(s / 24, s / 5)
    q = p * random.choice([1, 1, random.uniform(0.5, 2)])
    w, kind, font = (
        p * random.uniform(0.15, 0.45),
        random.randrange(4),
        ImageFont.truetype(random.choice(faces), int(p * 0.8) + 1),
    )
    sign = word()[0]
    for i in range(int(s / p) + 2):
        width = random.uniform(0.1, 0.9) * p
        if kind == 3:
            d.rectangle((i * p, 0, i * p + width, s), fill=255)
            continue
        for j in range(int(s / q) + 2):
            x, y = i * p, j * q
            if kind == 0:
                d.ellipse((x - w, y - w, x + w, y + w), fill=255)
            elif kind == 1:
                d.rectangle((x - w, y - w, x + w, y + w), fill=255)
            else:
                d.text((x, y), sign, fill=255, font=font)


PRINTS = [print_page, print_page, print_routes, print_routes, print_traces, print_strokes, print_shapes, print_shapes, print_grid]


def prints(n, size, faces=fonts()):
    "n masks of mixed kinds (1, size, size): drawn at twice the size by PIL, or thresholded noise and fractals"
    out = []
    for _ in range(n):
        if random.random() < 0.2:
            out.append(blobs(size))
            continue
        im = Image.new("L", (2 * size, 2 * size))
        random.choice(PRINTS)(ImageDraw.Draw(im), 2 * size, faces)
        out.append(torch.from_numpy(np.array(im.resize((size, size), Image.BOX)))[None].to(torch.get_default_device()))
    return torch.stack(out)


def blobs(size):
    g = (
        ferns(1, size) * 2 - 0.3
        if random.random() < 0.3
        else (noise(1, size)[0] - random.uniform(-0.3, 1.5)) * random.choice([1, 3, 20]) + 0.5
    )
    return (g.clamp(0, 1) * 255).byte()


# scenes
class Scenes:
    "Batches of composed pictures out of two banks, textures and prints, that are renewed a little with every batch"

    def __init__(self, sheets=384, sheet=288, progress=True):
        self.sheet, self.count = sheet, 0
        rounds = range(sheets // 8)
        self.textures = torch.cat([textures(8, sheet) for _ in tqdm(rounds, desc="textures", disable=not progress)])
        self.prints = torch.cat([prints(8, sheet) for _ in tqdm(rounds, desc="prints", disable=not progress)])

    def renew(self, n=1):
        i = torch.randint(0, len(self.textures), (1,)).item()
        if self.count % 2:
            self.textures[i] = textures(1, self.sheet)[0]
        else:
            self.prints[i] = prints(1, self.sheet)[0]
        self.count += 1

    def crop(self, bank, n, size, zoom):
        "n random places of a bank's sheets, turned, mirrored, zoomed"
        x = bank[torch.randint(0, len(bank), (n,))].float() / 255
        right = coin(0.5, n)
        a = torch.where(right, torch.randint(0, 4, (n,)) * math.pi / 2, uniform(0, 2 * math.pi, n))
        s = size / self.sheet * loguniform(*zoom, n)
        flip = torch.where(coin(0.5, n), 1.0, -1.0)
        t = uniform(-1, 1, 2, n) * (1 - s).clamp(min=0.1)
        m = torch.stack(
            [torch.stack([s * a.cos() * flip, -s * a.sin(), t[0]], 1), torch.stack([s * a.sin() * flip, s * a.cos(), t[1]], 1)], 1
        )
        return F.grid_sample(
            x, F.affine_grid(m, (n, x.shape[1], size, size), align_corners=False), padding_mode="reflection", align_corners=False
        )

    def __call__(self, n, size):
        return finish(self.scene(n, size))

    def scene(self, n, size):
        "n composed scenes: up to three prints on a texture, one on a plain ground, or a texture alone."
        self.renew()
        a, b = self.crop(self.textures, n, size, (0.4, 2)), self.crop(self.textures, n, size, (0.4, 2))
        u = torch.rand(n, 1, 1, 1)
        simple, bare = u < 0.35, u > 0.8  # one print on a plain ground; nothing but a texture
        x = plainer(a, torch.where(simple, 0.9, torch.where(bare, 0.0, 0.3)))
        for k, fill in enumerate((b, a.roll(1, 0), b.roll(1, 0))):
            m = self.crop(self.prints, n, size, (0.25, 1.6)) * coin((0.9, 0.6, 0.35)[k], n, 1, 1, 1)
            m = torch.where(coin(0.15, n, 1, 1, 1), 1 - m, m)
            if k < 2:
                x = lay(x, plainer(fill, 0.6), m * ~(simple | bare))
        m, fill = self.crop(self.prints, n, size, (0.3, 1.6)), plainer(b.roll(2, 0), torch.where(simple, 0.9, 0.6))
        m = torch.where(coin(0.15, n, 1, 1, 1), 1 - m, m) * torch.where(
            simple, 1.0, torch.where(bare, 0.0, coin(0.6, n, 1, 1, 1).float())
        )
        return torch.lerp(x, fill, m)


def plainer(x, p):
    "With probability p nearly plain: one colour and a trace of the texture"
    n = len(x)
    plain = torch.rand(n, 3, 1, 1)
    p = torch.as_tensor(p).reshape(-1, 1, 1, 1)
    plain = torch.where(coin(0.25, n, 1, 1, 1), (plain > 0.5).float().mean(1, keepdim=True).round().expand(-1, 3, -1, -1), plain)
    keep = torch.where(torch.rand(n, 1, 1, 1) < p, uniform(0, 0.25, n, 1, 1, 1) * coin(0.7, n, 1, 1, 1), torch.ones(()))
    return torch.lerp(plain, x, keep)


def lay(x, fill, m):
    "Put fill on x where m is, now and then with a shadow or half transparent"
    if random.random() < 0.4:
        dx, dy = random.randint(-4, 4), random.randint(-4, 4)
        x = x * (1 - F.avg_pool2d(m.roll((dy, dx), (2, 3)), 5, 1, 2) * uniform(0, 0.7, len(x), 1, 1, 1))
    return torch.lerp(x, fill, m * torch.where(coin(0.8, len(x), 1, 1, 1), 1.0, uniform(0.2, 1, len(x), 1, 1, 1)))


def light(n, size):
    "A slope and a spot of light, as a factor"
    yy, xx = grid(size)
    k = torch.randn(2, n, 1, 1) * 0.25
    c = torch.randn(2, n, 1, 1)
    spot = torch.exp(-((xx - c[0]) ** 2 + (yy - c[1]) ** 2) / loguniform(0.05, 2, n, 1, 1)) * torch.randn(n, 1, 1) * 0.5
    return (1 + (k[0] * xx + k[1] * yy + spot) * coin(0.6, n, 1, 1))[:, None]


def finish(x):
    "As a camera or scanner gives it: light, contrast, grey, blur or coarse pixels, threshold, noise"
    n, size = len(x), x.shape[-1]
    x = x * light(n, size)
    x = (x - 0.5) * torch.exp(torch.randn(n, 1, 1, 1) * 0.35) + 0.5 + torch.randn(n, 3, 1, 1) * 0.1
    x = torch.where(coin(0.4, n, 1, 1, 1), x.mean(1, keepdim=True), x)
    q = n // 4
    x[:q] = F.avg_pool2d(F.pad(x[:q], (1, 1, 1, 1), mode="reflect"), 3, 1)
    small = F.interpolate(x[-q:], scale_factor=random.uniform(0.4, 0.8), mode="bilinear", antialias=True)
    e = q // 2
    small[-e:] = (small[-e:].mean(1, keepdim=True) > small[-e:].mean((1, 2, 3), keepdim=True)).float()
    x[-q:] = F.interpolate(small, (size, size), mode=random.choice(["bilinear", "bicubic"]))
    x = x[torch.randperm(n)]
    x = (x + torch.randn(x.shape) * (uniform(0, 0.06, n, 1, 1, 1) * coin(0.6, n, 1, 1, 1))).clamp(0, 1)
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
