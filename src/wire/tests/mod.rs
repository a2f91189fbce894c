//! Properties of all decoders, and what only tests of `wire` use.

mod mutated;
mod mutations;
