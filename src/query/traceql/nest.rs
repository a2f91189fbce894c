//! How deep a tree is, as a property of its parts: whatever lies below something else is a [`Nested`]
//! or in a [`List`], and neither can be made once the tree would be deeper than [`DEPTH_MAX`]. So walks
//! over a tree, its copies and its drop may recurse, whoever built it: a test walks the deepest tree on
//! half of the smallest stack.

use std::ops::Deref;

/// Most levels of a tree.
pub const DEPTH_MAX: usize = 256;

/// A tree would be deeper than [`DEPTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query nests deeper than {DEPTH_MAX}; split it, or put conditions side by side")]
pub struct TooDeep;

/// What has levels below it.
pub trait Depth {
    /// Levels below this one.
    fn below(&self) -> usize;
}

/// One part below another.
#[derive(Clone, Debug)]
pub struct Nested<T> {
    inner: Box<T>,
    levels: usize,
}

impl<T: Depth> Nested<T> {
    /// Puts `inner` below something.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn new(inner: T) -> Result<Self, TooDeep> {
        let levels = levels(&inner)?;
        Ok(Self { inner: Box::new(inner), levels })
    }

    /// Levels from here on.
    pub fn levels(&self) -> usize {
        self.levels
    }
}

impl<T> Deref for Nested<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// Any number of parts side by side below another.
#[derive(Clone, Debug)]
pub struct List<T> {
    items: Vec<T>,
    levels: usize,
}

impl<T: Depth> List<T> {
    /// Puts `items` below something.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn new(items: Vec<T>) -> Result<Self, TooDeep> {
        let levels = items.iter().try_fold(0, |most, item| Ok(most.max(levels(item)?)))?;
        Ok(Self { items, levels })
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn push(&mut self, item: T) -> Result<(), TooDeep> {
        self.levels = self.levels.max(levels(&item)?);
        self.items.push(item);
        Ok(())
    }

    /// Levels from here on.
    pub fn levels(&self) -> usize {
        self.levels
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

fn levels(of: &impl Depth) -> Result<usize, TooDeep> {
    match of.below() + 1 {
        levels if levels < DEPTH_MAX => Ok(levels),
        _ => Err(TooDeep),
    }
}
