"""ICC profiles written by hand after ICC.1:2022, and what their colours are in sRGB, in float64."""

import struct

import numpy as np

D50, D65 = np.array([0.9642, 1.0, 0.8249]), np.array([0.95047, 1.0, 1.08883])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {  # x, y of red, green and blue; the white; the exponent of the curve, or None for that of sRGB
    "sRGB": ([(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)], D65, None),
    "Display P3": ([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)], D65, None),
    "Adobe RGB": ([(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)], D65, 563 / 256),
    "ProPhoto RGB": ([(0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)], D50, 1.8),
}


def to_xyz(name: str) -> np.ndarray:
    """From linear red, green, blue to XYZ under D50, (3, 3)."""
    primaries, white, _ = PRIMARIES[name]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
    return adapted @ columns


def linear(values: np.ndarray, exponent: float | None) -> np.ndarray:
    if exponent:
        return values**exponent
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_of_xyz(xyz: np.ndarray) -> np.ndarray:
    """XYZ under D50 (..., 3) as levels 0 … 255 of sRGB."""
    values = (xyz @ np.linalg.inv(to_xyz("sRGB")).T).clip(0, 1)
    return 255 * np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def srgb_of(pixels: np.ndarray, name: str) -> np.ndarray:
    return srgb_of_xyz(linear(pixels / 255, PRIMARIES[name][2]) @ to_xyz(name).T)


def srgb_of_lab(lab: np.ndarray) -> np.ndarray:
    """CIELAB under D50 (..., 3) as levels 0 … 255 of sRGB."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    return srgb_of_xyz(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curve(exponent: float | None) -> bytes:
    if exponent:
        return b"curv" + struct.pack(">IIH", 0, 1, round(exponent * 256)) + bytes(2)
    return b"para" + struct.pack(">IHH", 0, 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes], version: int = 0x02400000) -> bytes:
    text = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78 + 1)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + fixed(*D50)} | tags
    table, data, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s28x", place + len(data), version, kind, space, connection, b"acsp")
    return (header + fixed(*D50)).ljust(128, b"\0") + table + data


def rgb_profile(name: str) -> bytes:
    tags = {b"%cXYZ" % c: b"XYZ " + bytes(4) + fixed(*column) for c, column in zip(b"rgb", to_xyz(name).T, strict=True)}
    tags |= {b"%cTRC" % c: curve(PRIMARIES[name][2]) for c in b"rgb"}
    return profile(b"RGB ", b"mntr", b"XYZ ", tags, 0x04300000)


def grey_profile(exponent: float) -> bytes:
    return profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": curve(exponent)})


def cmyk_profile(corners: np.ndarray) -> bytes:
    """corners: uint8 (2, 2, 2, 2, 3), CIELAB of no or all ink, L · 255 / 100, a + 128, b + 128."""
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table + 4 * straight + corners.tobytes() + 3 * straight})
