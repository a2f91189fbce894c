//! What reads series: a selector, or a function over the ranges of one. `stream` runs them, and does not
//! know which it has.

use super::PromqlError;
use super::run::Eval;
use super::samples::Samples;
use super::value::Column;
use super::windows::{Known, Windows};
use crate::model::labels::Labels;
use crate::model::sample::Columns;

/// For each step the number of samples up to the one that it takes, for series with the same times; 0
/// is none.
pub(super) type Picks = Vec<u32>;

/// What a run of neighbours shares.
#[derive(Default)]
pub(super) struct Scratch {
    /// Which samples instant selectors take.
    pub picks: Known<Picks>,
    /// Where the windows of ranges lie.
    pub windows: Known<Windows>,
    /// The metric name of which something was said last.
    pub said: String,
}

/// Reads series one by one.
pub(super) trait Leaf: Send + Sync {
    /// The series and their samples.
    fn samples(&self) -> &Samples;

    /// Most milliseconds of samples that one series may have.
    fn span(&self) -> i64;

    /// Whether names go at the end of the query.
    fn drops_name(&self) -> bool;

    /// Computes the column of one series, and counts the samples that its steps look at.
    ///
    /// # Errors
    /// What is computed or the budget says.
    fn fill(
        &self,
        eval: &mut Eval<'_>,
        scratch: &mut Scratch,
        labels: &Labels,
        series: &mut Columns,
        column: &mut Column,
    ) -> Result<(), PromqlError>;
}
