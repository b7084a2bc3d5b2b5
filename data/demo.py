"""The demo catalogue: 32 products, about 1,800 training photographs, drawn on first use in AliProducts' own layout.

    python -m data.demo --out DIR --seed 0       # draw it into another folder
    python -m data.demo --sheet sheet.jpg        # two photographs of every product on one page

The training split has the difficulties of the real challenge: a long tail (300 photographs down to 5), wrong labels
(12 %) and near-duplicates (3 %). Validation and test splits are balanced and clean. `truth.json` says what each
photograph really shows.
"""

import argparse
import os
from pathlib import Path

from common import flags
from common.command_line import run
from common.errors import InputError
from common.pictures import picture_format, save_picture
from drawings import contact_sheet, draw_demo, is_drawn


def arguments() -> argparse.Namespace:
    parser = flags.Parser(prog="python -m data.demo", description=__doc__)
    parser.add_argument("--out", type=Path, help="new folder to draw the catalogue into")
    parser.add_argument("--seed", type=flags.number(int, 0, 2**31), default=0, help="(default: 0)")
    parser.add_argument("--sheet", type=Path, help="picture file to draw the contact sheet into")
    args = parser.parse_args()
    if args.sheet:
        picture_format(args.sheet)
    if args.out and len(os.fsencode(args.out.name)) > 255:
        raise InputError(f"--out {args.out}: no name may be so long; choose a shorter one")
    empty = args.out and (not os.path.lexists(args.out) or (args.out.is_dir() and not any(args.out.iterdir())))
    if args.out and not empty and not is_drawn(args.out, args.seed):
        raise InputError(f"--out {args.out}: is there already and is not this drawing; choose a new folder")
    return args


def main() -> None:
    args = arguments()
    if args.out:
        try:
            draw_demo(args.out, args.seed)
        except OSError as error:
            raise InputError(f"--out {args.out}: cannot be drawn ({error.strerror}); choose another place") from error
    if args.sheet:
        save_picture(contact_sheet(), args.sheet)


if __name__ == "__main__":
    run(main, tool=True)
