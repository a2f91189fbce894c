#!/usr/bin/env python3
"""An OCI image layout from one static binary, without a container engine.

What the image is (entry point, variables, ports, volume, health check, labels, which folder belongs to whom) is read from the
last stage of docker/Dockerfile, so that both ways lead to the same image. The same input gives the same bytes:
times are SOURCE_DATE_EPOCH's, names are sorted. Beside what the OCI image layout asks for there is a manifest.json,
as `docker save` writes it, for engines whose `docker load` reads nothing else.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import tarfile

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
NANOSECONDS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def instructions(dockerfile):
    """Instructions of the last stage as pairs of word and rest."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.split(None, 1) for line in joined.splitlines()]
    last = max(at for at, (word, _) in enumerate(found) if word == "FROM")
    if found[last][1].strip() != "scratch":
        raise SystemExit(f"the last stage begins FROM {found[last][1]}, not FROM scratch")
    return [(word, rest.strip()) for word, rest in found[last + 1:]]


def nanoseconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * NANOSECONDS[unit]


def pairs(rest):
    return dict(word.split("=", 1) for word in shlex.split(rest))


def health_check(rest):
    options, command = re.fullmatch(r"((?:--\S+\s+)*)CMD\s+(\[.*\])", rest).groups()
    check = {"Test": ["CMD", *json.loads(command)]}
    names = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod"}
    for option in options.split():
        name, value = option.removeprefix("--").split("=", 1)
        if name == "retries":
            check["Retries"] = int(value)
        else:
            check[names[name]] = nanoseconds(value)
    return check


def copy(rest):
    """(what, where, uid, gid) of a COPY; `what` is its source in the build stage."""
    words = rest.split()
    owner = [word.removeprefix("--chown=") for word in words if word.startswith("--chown=")]
    uid, gid = (owner or ["0:0"])[0].split(":")
    source, target = [word for word in words if not word.startswith("--")]
    return source, target, int(uid), int(gid)


def image(dockerfile):
    """Configuration in the words of the image, and the COPY instructions."""
    config, copies = {}, []
    for word, rest in instructions(dockerfile):
        if word == "ENV":
            config.setdefault("Env", []).extend(f"{name}={value}" for name, value in pairs(rest).items())
        elif word == "LABEL":
            config.setdefault("Labels", {}).update(pairs(rest))
        elif word == "EXPOSE":
            config["ExposedPorts"] = {f"{port}/tcp": {} for port in rest.split()}
        elif word == "VOLUME":
            config["Volumes"] = {path: {} for path in json.loads(rest)}
        elif word == "ENTRYPOINT":
            config["Entrypoint"] = json.loads(rest)
        elif word == "STOPSIGNAL":
            config["StopSignal"] = rest
        elif word == "HEALTHCHECK":
            config["Healthcheck"] = health_check(rest)
        elif word == "COPY":
            copies.append(copy(rest))
        else:
            raise SystemExit(f"{word} in the last stage of the Dockerfile: teach it to docker/dist/oci.py")
    config["WorkingDir"] = "/"
    return config, copies


def layer(target, uid, gid, epoch, content):
    """A tar archive of one file, or of an empty folder where `content` is None."""
    info = tarfile.TarInfo(target.lstrip("/") + ("/" if content is None else ""))
    info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    info.size = len(content or b"")
    info.mode, info.uid, info.gid, info.mtime = 0o755, uid, gid, epoch
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(content or b""))
    return packed.getvalue()


class Layout:
    """A folder with `blobs/` by their digest."""

    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "blobs/sha256").mkdir(parents=True)

    def write(self, name, value):
        (self.folder / name).write_text(json.dumps(value, indent=1) + "\n")

    def blob(self, media_type, content):
        """Its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def pack(self, path, epoch):
        names = sorted(str(own.relative_to(self.folder)) for own in self.folder.rglob("*"))
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name in names:
                info = archive.gettarinfo(self.folder / name, name)
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.mode = 0o755 if info.isdir() else 0o644
                info.mtime = epoch
                content = (self.folder / name).read_bytes() if info.isfile() else b""
                archive.addfile(info, io.BytesIO(content))


def path_in(digest):
    return "blobs/" + digest.replace(":", "/")


def build(args):
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    config, copies = image(args.dockerfile.read_text())
    layout = Layout(args.out)
    sources = {"/trilith": args.binary.read_bytes(), "/empty": None}
    layers, diff_ids, history = [], [], []
    for source, target, uid, gid in copies:
        plain = layer(target, uid, gid, epoch, sources[source])
        diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
        layers.append(layout.blob(LAYER, gzip.compress(plain, compresslevel=args.level, mtime=0)))
        history.append({"created": created, "created_by": f"COPY {source} {target}", "comment": "docker/dist/oci.py"})
    platform = {"architecture": args.arch, "os": "linux"}
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    content = {"created": created, **platform, "config": config, "rootfs": rootfs, "history": history}
    described = layout.blob(CONFIG, json.dumps(content, sort_keys=True).encode())
    annotations = {**config["Labels"], "org.opencontainers.image.version": args.version, "org.opencontainers.image.created": created}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers, "annotations": annotations}
    at = layout.blob(MANIFEST, json.dumps(manifest, sort_keys=True).encode())
    tags = [args.version, "latest"]
    named = lambda tag: {"io.containerd.image.name": f"docker.io/library/trilith:{tag}", "org.opencontainers.image.ref.name": tag}
    manifests = [{**at, "platform": platform, "annotations": named(tag)} for tag in tags]
    layout.write("index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    layout.write("oci-layout", {"imageLayoutVersion": "1.0.0"})
    files = [path_in(own["digest"]) for own in layers]
    repository_tags = [f"trilith:{tag}" for tag in tags]
    layout.write("manifest.json", [{"Config": path_in(described["digest"]), "RepoTags": repository_tags, "Layers": files}])
    layout.pack(args.tar, epoch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, kind in [("binary", pathlib.Path), ("dockerfile", pathlib.Path), ("arch", str), ("version", str)]:
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--level", type=int, default=9, help="how hard to compress, 1 to 9")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the layout; what is there goes")
    parser.add_argument("--tar", type=pathlib.Path, required=True, help="the same as one file")
    build(parser.parse_args())


if __name__ == "__main__":
    main()
