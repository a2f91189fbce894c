#!/usr/bin/env python3
"""Checks an OCI image layout by walking it, and unpacks it: index.json -> manifest -> configuration and layers.

    oci_check.py LAYOUT TAR ROOTFS     checks the folder and the tar, unpacks the layers into ROOTFS, prints the configuration

Knows nothing of how docker/dist/oci.py makes it; the rules are those of the OCI image specification 1.1.
"""

import gzip
import hashlib
import json
import pathlib
import re
import sys
import tarfile
import tempfile

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def check(holds, what):
    if not holds:
        raise SystemExit(f"error: {what}")


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layout:
    def __init__(self, folder):
        self.folder = folder
        self.seen = set()

    def blob(self, descriptor, media_type):
        """What a descriptor points at, after its media type, size and digest were found right."""
        digest, size = descriptor["digest"], descriptor["size"]
        check(re.fullmatch(r"sha256:[0-9a-f]{64}", digest), f"{digest} is no digest")
        check(descriptor["mediaType"] == media_type, f"{digest} is {descriptor['mediaType']}, not {media_type}")
        content = (self.folder / "blobs" / digest.replace(":", "/")).read_bytes()
        check(len(content) == size, f"{digest} has {len(content)} bytes, not {size}")
        check(sha256(content) == digest, f"{digest} is {sha256(content)}")
        self.seen.add(digest)
        return content

    def walk(self):
        """(configuration, plain layers) of the one image."""
        mark = json.loads((self.folder / "oci-layout").read_text())
        check(mark == {"imageLayoutVersion": "1.0.0"}, f"oci-layout says {mark}")
        index = json.loads((self.folder / "index.json").read_text())
        check(index["schemaVersion"] == 2 and index["mediaType"] == INDEX, "index.json is no index")
        tags = [own["annotations"]["org.opencontainers.image.ref.name"] for own in index["manifests"]]
        check(len(set(tags)) == len(tags) and "latest" in tags, f"tags {tags}")
        check(len({own["digest"] for own in index["manifests"]}) == 1, "the tags are of several images")
        first = index["manifests"][0]
        manifest = json.loads(self.blob(first, MANIFEST))
        check(manifest["schemaVersion"] == 2 and manifest["mediaType"] == MANIFEST, "the manifest is none")
        config = json.loads(self.blob(manifest["config"], CONFIG))
        platform = {key: config[key] for key in ("architecture", "os")}
        check(first["platform"] == platform, f"{first['platform']} in the index, {platform} in the image")
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", config["created"]), config["created"])
        layers = [gzip.decompress(self.blob(own, LAYER)) for own in manifest["layers"]]
        check(config["rootfs"]["type"] == "layers", "rootfs is not of layers")
        check(config["rootfs"]["diff_ids"] == [sha256(own) for own in layers], "diff_ids are not those of the layers")
        rows = [row for row in config["history"] if not row.get("empty_layer")]
        check(len(rows) == len(layers), "history has another number of layers")
        self.check_docker_archive(manifest, tags)
        files = {f"sha256:{path.name}" for path in (self.folder / "blobs/sha256").iterdir()}
        check(files == self.seen, f"blobs that nothing points at: {files - self.seen}")
        return config, layers

    def check_docker_archive(self, manifest, tags):
        """manifest.json, by which `docker load` goes, is of the same image."""
        (own,) = json.loads((self.folder / "manifest.json").read_text())
        path = lambda descriptor: "blobs/" + descriptor["digest"].replace(":", "/")
        check(own["Config"] == path(manifest["config"]), "manifest.json has another configuration")
        check(own["Layers"] == [path(layer) for layer in manifest["layers"]], "manifest.json has other layers")
        check(own["RepoTags"] == [f"trilith:{tag}" for tag in tags], f"manifest.json has tags {own['RepoTags']}")


def unpack(layers, rootfs):
    for layer in layers:
        with tempfile.TemporaryFile() as plain:
            plain.write(layer)
            plain.seek(0)
            with tarfile.open(fileobj=plain) as archive:
                for entry in archive:
                    check(not entry.name.startswith(("/", "..")), f"{entry.name} leads out of the image")
                    archive.extract(entry, rootfs, numeric_owner=True)


def main():
    folder, tar, rootfs = map(pathlib.Path, sys.argv[1:])
    config, layers = Layout(folder).walk()
    with tempfile.TemporaryDirectory() as other, tarfile.open(tar) as archive:
        archive.extractall(other)
        again, _ = Layout(pathlib.Path(other)).walk()
        check(again == config, "the tar holds another image than the folder")
    unpack(layers, rootfs)
    print(json.dumps(config["config"], indent=1))


if __name__ == "__main__":
    main()
