//! The server's attack surface as a table: hostile requests to every door, and what must hold afterwards.
//! `table` runs each row once over a small store in `cargo test`; `siege` runs many at random over a large one in
//! a memory cgroup, with ordinary senders and queries beside them (`just attack`).

mod cgroup;
mod client;
mod counts;
mod dear;
mod depths;
mod encode;
mod hang_up;
mod http2;
mod load;
mod many;
mod odd;
mod ordinary;
mod row;
mod scene;
mod siege;
mod sizes;
mod slow;
mod surface;
mod table;
mod target;
mod times;

/// All attacks, by kind.
const TABLES: &[&[row::Attack]] = &[
    sizes::ATTACKS,
    depths::ATTACKS,
    counts::ATTACKS,
    slow::ATTACKS,
    hang_up::ATTACKS,
    many::ATTACKS,
    dear::ATTACKS,
    odd::ATTACKS,
    times::ATTACKS,
];
