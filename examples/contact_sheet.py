"""Write a contact sheet of a demo run: a row of masks, one of images, one of images with classes left out.

python examples/contact_sheet.py DEMO_FOLDER

Reads DEMO_FOLDER/{images,ablated}/manifest.jsonl and the masks they name; writes DEMO_FOLDER/sheet.png.
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

TILE = 128
CAPTION = 18


def main(folder: str) -> None:
    """Write the sheet and print its path."""
    demo = Path(folder)
    drawn = records(demo / "images")
    ablated = records(demo / "ablated")
    rows = [
        ("mask", [Image.open(record["mask"]).convert("RGB") for record in drawn]),
        ("all classes", [Image.open(demo / "images" / record["file"]).convert("RGB") for record in drawn]),
        (f"only {', '.join(ablated[0]['keep'])}", [Image.open(demo / "ablated" / r["file"]).convert("RGB") for r in ablated]),
    ]
    sheet = Image.new("RGB", (len(drawn) * TILE, len(rows) * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (caption, tiles) in enumerate(rows):
        top = row * (TILE + CAPTION)
        draw.text((4, top + 3), caption, fill="black")
        for column, tile in enumerate(tiles):
            method = Image.Resampling.NEAREST if caption == "mask" else Image.Resampling.BICUBIC
            sheet.paste(tile.resize((TILE, TILE), method), (column * TILE, top + CAPTION))
    sheet.save(demo / "sheet.png")
    print(demo / "sheet.png")


def records(run: Path) -> list[dict]:
    """Return what a run's manifest says of each image."""
    return [json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main(sys.argv[1])
