"""A folder of images, one subfolder for each class, as an array that `fit` takes."""

from pathlib import Path

import numpy as np

from relukit._errors import InvalidInput, UnreadableFile
from relukit._types import Array

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_LIMIT = 1 << 28  # numbers that are held in memory, 1 GiB as float32


def read_images(folder: str | Path, size: tuple[int, int] | None = None) -> tuple[Array, Array]:
    """Pixels from 0 to 1 and the names of their classes.

    Gray images stay gray where all are; else all become RGB. Without `size` all must be of one size.

    Arguments:
        folder: Holds a subfolder for each class, images in it.
        size: Height and width that every image is brought to.

    Returns:
        Float32 images of shape `(rows, channels, height, width)` and names of shape `(rows,)`.

    Raises:
        UnreadableFile: A file that ends like an image and is none.
        InvalidInput: Fewer than two subfolders with images, sizes that differ, or more pixels than memory should hold.
    """
    from PIL import Image, UnidentifiedImageError

    folder = Path(folder)
    files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in _ENDINGS and p.is_file())
    names = np.array([p.parent.name for p in files])
    if len(set(names)) < 2:
        raise InvalidInput(
            f"folder {folder} holds {len(files)} images in {len(set(names))} subfolders; training on images wants one subfolder "
            "for each class, at least two, with .png, .jpg or other images in them"
        )
    pictures, shapes = [], {}
    for path in files:
        try:
            with Image.open(path) as image:
                image = image.convert("L" if image.mode in ("1", "L", "I", "I;16", "LA") else "RGB")
                shapes.setdefault((image.height, image.width), path.name)
                pictures.append(image.resize((size[1], size[0])) if size is not None else image.copy())
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise UnreadableFile(f"{path} is no readable image: {str(error).splitlines()[0]}") from error
    if size is None and len(shapes) > 1:
        (a, first), (b, second) = list(shapes.items())[:2]
        raise InvalidInput(
            f"images differ in size: {first} is {a[0]} by {a[1]}, {second} {b[0]} by {b[1]} ({len(shapes)} sizes in all); "
            f"give one for all, such as --size {a[0]}x{a[1]}"
        )
    gray = all(p.mode == "L" for p in pictures)
    height, width = pictures[0].height, pictures[0].width
    if len(pictures) * height * width * (1 if gray else 3) > _LIMIT:
        raise InvalidInput(
            f"{len(pictures)} images of {height} by {width} are more than memory should hold; make them smaller, such as --size 64x64"
        )
    arrays = [np.asarray(p if gray else p.convert("RGB"), np.float32) / 255 for p in pictures]
    found = np.stack(arrays)
    return (found[:, None] if gray else np.ascontiguousarray(found.transpose(0, 3, 1, 2))), names
