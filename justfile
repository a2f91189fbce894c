# Every command worth remembering. `just` alone lists them.

_list:
    @just --list --unsorted

# A server on the default ports, data in ./trilith-data
run *flags:
    cargo run --release -- {{flags}}

# Format, lints, import table: before a commit
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test --quiet --test it architecture

# What the README promises: all tests, with Rust alone
test *filter:
    cargo test {{filter}}

# The README's first sections in a clean clone, as somebody new would walk them; takes the default ports
readme:
    tests/readme/walk.sh

# Tests with real agents; AGENTS_PYTHON names a Python with tests/agents/requirements.txt
agents:
    AGENTS=require cargo test --test it agents -- --nocapture

# The web page in Chromium; needs chromium, prometheus and a Python with tests/agents/ and tests/web/requirements.txt
web python="python3" *pictures:
    cargo build
    WEB=require {{python}} tests/web/page.py target/debug/trilith {{pictures}}

# Kill the server 500 times under load (the usual test does 50)
crash rounds="500":
    CRASH_ROUNDS={{rounds}} cargo test --release --test it crash -- --nocapture

# Attack a server in a memory cgroup of 256 MiB with data of all signals (root; ATTACK_SEED repeats a run)
attack rounds="1000":
    ATTACK_ROUNDS={{rounds}} cargo test --release --test it siege -- --nocapture

# Random schedules of failing disks, full disks, deaths and power cuts (the usual test does 150)
faults schedules="10000":
    FAULT_SCHEDULES={{schedules}} cargo test --release --test it faults:: -- --nocapture

# One fuzz target for so many seconds; needs cargo-fuzz and a nightly Rust
fuzz target seconds="60":
    tests/fuzz/run.sh {{seconds}} {{target}}

# All fuzz targets in turn, each for so many seconds
fuzz-all seconds="60":
    tests/fuzz/run.sh {{seconds}}

# Everything that CI does
ci:
    .ci/run

# Server and Grafana, with Docker; builds the image when there is none
up *flags:
    docker compose -f docker/compose.yaml up {{flags}}

# The same with a made-up shop that sends, and metrics of this machine
demo *flags:
    docker compose -f docker/compose.yaml --profile demo up {{flags}}

# The image anew, from this source
image:
    docker compose -f docker/compose.yaml build

# What one installs from, in target/dist: static binary, tar.gz, .deb, container image, SHA256SUMS
dist *flags:
    docker/dist/dist.sh {{flags}}

# Installs, starts, upgrades and removes the packages of a static binary, on an overlay over this machine (root)
check-dist binary="target/dist/trilith-*-linux-amd64":
    tests/dist/check.sh {{binary}}

# Licences and sources of all dependencies
deny:
    cargo deny check licenses bans sources
