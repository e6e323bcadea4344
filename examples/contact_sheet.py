"""Write a contact sheet of a demo run: a row of masks, one of images, one of images with classes left out.

python examples/contact_sheet.py MASKS DEMO_FOLDER

Reads DEMO_FOLDER/{images,ablated}/manifest.jsonl, and the masks they name from MASKS; writes DEMO_FOLDER/sheet.png.
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

TILE = 128
CAPTION = 18


def main(masks: str, folder: str) -> None:
    """Write the sheet and print its path."""
    demo = Path(folder)
    drawn, ablated = records(demo / "images"), records(demo / "ablated")
    rows = [
        ("mask", [tile(Path(masks) / record["mask"]) for record in drawn]),
        ("generated from all classes", [tile(demo / "images" / record["file"]) for record in drawn]),
        (
            f"generated from {' and '.join(ablated[0]['classes'])} alone",
            [tile(demo / "ablated" / record["file"]) for record in ablated],
        ),
    ]
    sheet = Image.new("RGB", (len(drawn) * TILE, len(rows) * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (caption, tiles) in enumerate(rows):
        top = row * (TILE + CAPTION)
        draw.text((4, top + 3), caption, fill="black")
        for column, picture in enumerate(tiles):
            sheet.paste(picture, (column * TILE, top + CAPTION))
    sheet.save(demo / "sheet.png")
    print(demo / "sheet.png")


def tile(path: Path) -> Image.Image:
    """Return a picture in the sheet's size; masks keep their sharp edges."""
    picture = Image.open(path)
    method = Image.Resampling.NEAREST if picture.mode == "P" else Image.Resampling.BICUBIC
    return picture.convert("RGB").resize((TILE, TILE), method)


def records(run: Path) -> list[dict]:
    """Return what a run's manifest says of each image."""
    return [json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main(*sys.argv[1:])
