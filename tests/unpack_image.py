#!/usr/bin/env python3
"""Unpacks an image that `cargo xtask images` wrote into a directory, its layers one above the other."""

import json
import sys
import tarfile


def main(archive_path: str, directory: str) -> None:
    with tarfile.open(archive_path) as archive:

        def blob(digest: str):
            return archive.extractfile("blobs/" + digest.replace(":", "/"))

        index = json.load(archive.extractfile("index.json"))
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            # Our own images: layers are plain tars, without whiteouts.
            with tarfile.open(fileobj=blob(layer["digest"]), mode="r:") as tree:
                tree.extractall(directory)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: unpack_image.py ARCHIVE DIRECTORY")
    main(sys.argv[1], sys.argv[2])
