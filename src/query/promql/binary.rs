//! Binary operators: scalars, a vector and a scalar, two vectors that match by labels, and sets.
//! Series are grouped by their matching labels once; then each step is matched by itself, since
//! which of several series has a sample may change from step to step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use ahash::AHashMap;

use super::PromqlError;
use super::ast::{Binary, BinaryOp, Cardinality, Matching, Pos};
use super::operate;
use super::run::{Eval, Grid};
use super::stream::{Open, Stage};
use super::value;
use super::value::{Cell, CellRef, Column, Series, Vector, cost, series_bytes};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::query::pace::{ByBlock, Held};

/// Finds the labels that two series must share to match, by their bytes.
struct Signer<'q> {
    matching: &'q Matching,
    /// Those compared, or not compared, sorted.
    names: Vec<&'q str>,
    key: String,
}

impl<'q> Signer<'q> {
    fn new(matching: &'q Matching) -> Self {
        let mut names: Vec<&str> = matching.labels.iter().map(String::as_str).collect();
        names.sort_unstable();
        Self { matching, names, key: String::new() }
    }

    fn left_out(&self, name: &str) -> bool {
        name == METRIC_NAME || self.names.binary_search(&name).is_ok()
    }

    fn key(&mut self, labels: &Labels) -> &str {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        if self.matching.on {
            labels.only_key(&self.names, &mut key);
        } else {
            labels.filter_key(&mut key, |name, _| !self.left_out(name));
        }
        self.key = key;
        &self.key
    }

    fn labels(&self, labels: &Labels) -> Labels {
        if self.matching.on {
            labels.filter(|name, _| self.names.binary_search(&name).is_ok())
        } else {
            labels.filter(|name, _| !self.left_out(name))
        }
    }
}

/// What matching series takes for each: its place in a list, and at most a group of its own in two tables.
const MATCH_BYTES: usize = 2 * (size_of::<Match>() + size_of::<(Labels, usize)>()) + 2 * size_of::<usize>();

/// Series with the same signature.
#[derive(Default)]
struct Group {
    /// Their indexes.
    series: Vec<usize>,
    /// Once it was asked for, by step whether any of them has a sample.
    present: Option<Vec<bool>>,
}

/// Series by signature.
type Groups = AHashMap<Labels, Group>;

fn grouped(
    eval: &mut Eval<'_>,
    held: &Held<'_>,
    vector: &Vector,
    signer: &mut Signer<'_>,
) -> Result<Groups, PromqlError> {
    held.add(MATCH_BYTES * vector.len())?;
    let mut groups = Groups::new();
    for (at, series) in vector.iter().enumerate() {
        eval.spend(10 + series.labels.bytes())?;
        match groups.get_mut(signer.key(&series.labels)) {
            Some(group) => group.series.push(at),
            None => {
                let labels = signer.labels(&series.labels);
                held.add(labels.bytes())?;
                groups.insert(labels, Group { series: vec![at], present: None });
            }
        }
    }
    Ok(groups)
}

impl Group {
    /// Leaves a column the samples of those steps at which one of the series has one, or none has.
    fn keep(
        &mut self,
        eval: &mut Eval<'_>,
        held: &Held<'_>,
        vector: &Vector,
        column: &mut Column,
        wanted: bool,
    ) -> Result<(), PromqlError> {
        if self.present.is_none() {
            held.add(column.steps())?;
        }
        let present = match &mut self.present {
            Some(present) => present,
            place => {
                let mut present = vec![false; column.steps()];
                for series in self.series.iter().filter_map(|at| vector.get(*at)) {
                    eval.spend(present.len())?;
                    present.iter_mut().enumerate().for_each(|(step, own)| *own |= series.column.get(step).is_some());
                }
                place.insert(present)
            }
        };
        for (step, _) in present.iter().enumerate().filter(|(_, present)| **present != wanted) {
            column.set(step, None);
        }
        Ok(())
    }
}

/// What a result takes besides its series: its place among all.
const RESULT_BYTES: usize = 2 * size_of::<((Labels, bool), usize)>();

/// Series of both sides that match.
struct Match {
    key: Labels,
    many: Vec<usize>,
    one: Vec<usize>,
}

fn matches(
    eval: &mut Eval<'_>,
    held: &Held<'_>,
    (many, one): (&Vector, &Vector),
    matching: &Matching,
) -> Result<Vec<Match>, PromqlError> {
    held.add(MATCH_BYTES * (many.len() + one.len()))?;
    let mut signer = Signer::new(matching);
    let (mut places, mut all) = (AHashMap::<Labels, usize>::new(), Vec::new());
    let sides = many.iter().enumerate().map(|own| (own, true)).chain(one.iter().enumerate().map(|own| (own, false)));
    for ((at, series), of_many) in sides {
        eval.spend(10 + series.labels.bytes())?;
        let place = match places.get(signer.key(&series.labels)) {
            Some(place) => *place,
            None => {
                let key = signer.labels(&series.labels);
                held.add(key.bytes())?;
                places.insert(key.clone(), all.len());
                all.push(Match { key, many: Vec::new(), one: Vec::new() });
                all.len() - 1
            }
        };
        if let Some(found) = all.get_mut(place) {
            if of_many { &mut found.many } else { &mut found.one }.push(at);
        }
    }
    Ok(all)
}

impl Eval<'_> {
    /// Evaluates a binary operation.
    ///
    /// # Errors
    /// What the operands say, and ambiguous matches.
    pub(super) fn binary<'q>(&mut self, binary: &'q Binary, pos: Pos, grid: &Grid) -> Result<Open<'q>, PromqlError> {
        let left = self.open(&binary.left, grid)?;
        let right = self.open(&binary.right, grid)?;
        match (left, right) {
            (Open::Scalar(mut a), Open::Scalar(b)) => {
                self.in_parts(&mut a, |at, part| {
                    for (a, b) in part.iter_mut().zip(b.get(at..).unwrap_or_default()) {
                        *a = scalar_result(binary, *a, *b);
                    }
                })?;
                self.budget.release(size_of_val(b.as_slice()));
                Ok(Open::Scalar(a))
            }
            (Open::String(_), _) | (_, Open::String(_)) => {
                Err(PromqlError::Execution("strings have no operators".to_owned()))
            }
            (vector, Open::Scalar(scalar)) => self.staged(vector, with_scalar(binary, scalar, false, pos)),
            (Open::Scalar(scalar), vector) => self.staged(vector, with_scalar(binary, scalar, true, pos)),
            (left, right) => {
                let (left, right) = (self.computed(left)?, self.computed(right)?);
                let result = match binary.op {
                    BinaryOp::And => self.and(binary, left, right, true)?,
                    BinaryOp::Unless => self.and(binary, left, right, false)?,
                    BinaryOp::Or => self.or(binary, left, right)?,
                    _ => self.matched(binary, left, right, pos, grid)?,
                };
                Ok(Open::Vector(self.without_empty(result)?))
            }
        }
    }

    /// `and`, or with `wanted` false `unless`.
    fn and(&mut self, binary: &Binary, left: Vector, right: Vector, wanted: bool) -> Result<Vector, PromqlError> {
        let held = Held::new(self.budget);
        let mut signer = Signer::new(&binary.matching);
        let mut groups = grouped(self, &held, &right, &mut signer)?;
        let mut result = left;
        for series in &mut result {
            self.spend(series.labels.bytes() + series.column.steps())?;
            match groups.get_mut(signer.key(&series.labels)) {
                Some(group) => group.keep(self, &held, &right, &mut series.column, wanted)?,
                None if wanted => (0..series.column.steps()).for_each(|step| series.column.set(step, None)),
                None => {}
            }
        }
        self.release(&right);
        Ok(result)
    }

    fn or(&mut self, binary: &Binary, left: Vector, right: Vector) -> Result<Vector, PromqlError> {
        let held = Held::new(self.budget);
        let mut signer = Signer::new(&binary.matching);
        let mut groups = grouped(self, &held, &left, &mut signer)?;
        let mut right = right;
        for series in &mut right {
            self.spend(series.labels.bytes() + series.column.steps())?;
            if let Some(group) = groups.get_mut(signer.key(&series.labels)) {
                group.keep(self, &held, &left, &mut series.column, false)?;
            }
        }
        let mut result = left;
        result.append(&mut right);
        Ok(result)
    }

    fn matched(
        &mut self,
        binary: &Binary,
        left: Vector,
        right: Vector,
        pos: Pos,
        grid: &Grid,
    ) -> Result<Vector, PromqlError> {
        let swap = binary.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swap { (&right, &left) } else { (&left, &right) };
        let held = Held::new(self.budget);
        let matches = matches(self, &held, (many, one), &binary.matching)?;
        let several = matches.iter().any(|found| found.one.len() > 1);
        let present = if several { self.present(many, grid)? } else { Vec::new() };
        let (results, places, charged) = (Vec::new(), HashMap::new(), ByBlock::new(self.budget));
        let mut join = Join { binary, pos, grid: *grid, swap, many, one, present, results, places, charged };
        for Match { key, many, one } in matches {
            join.group(self, &key, &many, &one)?;
        }
        join.charged.settle()?;
        let results = std::mem::take(&mut join.results);
        self.release(&left);
        self.release(&right);
        Ok(results)
    }
}

impl Eval<'_> {
    /// Whether a vector has a sample at each step.
    fn present(&mut self, vector: &Vector, grid: &Grid) -> Result<Vec<bool>, PromqlError> {
        self.budget.charge(grid.steps)?;
        let mut present = vec![false; grid.steps];
        for series in vector {
            self.spend(grid.steps)?;
            for (step, present) in present.iter_mut().enumerate() {
                *present |= series.column.get(step).is_some();
            }
        }
        Ok(present)
    }
}

/// What an operator with a scalar on one side does to each cell of the other.
fn with_scalar(binary: &Binary, scalar: Vec<f64>, scalar_first: bool, pos: Pos) -> Stage<'_> {
    let (op, bool) = (binary.op, binary.bool);
    let trims = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    let keeps_name = op.is_comparison() || trims;
    let scalar: Arc<[f64]> = scalar.into();
    let numbers = scalar.clone();
    let stage = Stage::new(!keeps_name || bool, move |eval, step, cell| {
        let number = CellRef::Float(scalar.get(step).copied().unwrap_or(f64::NAN));
        let outcome = if scalar_first {
            operate::cells(eval, op, number, cell, pos)
        } else {
            operate::cells(eval, op, cell, number, pos)
        };
        if !op.is_comparison() || outcome.cell.is_none() {
            return Ok(outcome.cell);
        }
        if bool {
            return Ok(Some(Cell::Float(f64::from(u8::from(outcome.keep)))));
        }
        Ok(if outcome.keep { cell.to_cell() } else { None })
    });
    // Floats cannot be trimmed, which must be said.
    if trims {
        return stage;
    }
    stage.of_floats(move |at, cells| {
        operate::column(op, bool, cells, numbers.get(at..).unwrap_or_default(), scalar_first);
    })
}

fn scalar_result(binary: &Binary, a: f64, b: f64) -> f64 {
    let outcome = operate::floats(binary.op, a, b);
    if binary.op.is_comparison() {
        return f64::from(u8::from(outcome.keep));
    }
    match outcome.cell {
        Some(Cell::Float(value)) => value,
        Some(Cell::Histogram(_)) | None => f64::NAN,
    }
}

fn ambiguous() -> PromqlError {
    let message = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
    PromqlError::Execution(message.to_owned())
}

/// Sets a cell of a result, which must be the only one for its labels at its step.
fn put(eval: &Eval<'_>, column: &mut Column, step: usize, cell: Cell) -> Result<(), PromqlError> {
    if column.get(step).is_some() {
        let message = "multiple matches for labels: grouping labels must ensure unique matches";
        return Err(PromqlError::Execution(message.to_owned()));
    }
    eval.set(column, step, Some(cell))
}

/// The join of two vectors under way. `many` may have several series in a group, `one` only one at
/// a step; without grouping neither may.
struct Join<'v> {
    binary: &'v Binary,
    pos: Pos,
    grid: Grid,
    /// Whether the many side is on the right.
    swap: bool,
    many: &'v Vector,
    one: &'v Vector,
    /// By step whether the many side has any sample; empty where the one side has no two series to
    /// confuse. Where one side is empty nothing is matched, and nothing wrong.
    present: Vec<bool>,
    results: Vector,
    places: HashMap<(Labels, bool), usize>,
    /// What results take besides their columns.
    charged: ByBlock<'v>,
}

impl Join<'_> {
    fn group(&mut self, eval: &mut Eval<'_>, key: &Labels, many: &[usize], one: &[usize]) -> Result<(), PromqlError> {
        let matching = &self.binary.matching;
        // Also with group_right, where the many side is the right one, `fill_left` is for the many
        // side: that is how Prometheus has it.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let alone = (many.is_empty() && fill_many.is_none()) || (one.is_empty() && fill_one.is_none());
        if alone && one.len() < 2 {
            return Ok(());
        }
        let clear = matching.cardinality != Cardinality::OneToOne || many.len() == 1;
        if let ([one], None, None, true) = (one, fill_many, fill_one, clear && !eval.general) {
            return many.iter().try_for_each(|many| self.columns(eval, key, *many, *one));
        }
        for step in 0..self.grid.steps {
            eval.spend(many.len() + one.len() + 1)?;
            if fill_many.is_none() && fill_one.is_none() && self.present.get(step) == Some(&false) {
                continue;
            }
            // Two series that share these labels are an error also where nothing matches them.
            let partner = self.only(one, step, key)?;
            let partner_labels = partner.map(|at| &self.one[at]);
            let partner_cell = match partner_labels {
                Some(series) => series.column.get(step),
                None => fill_one.map_or(CellRef::None, CellRef::Float),
            };
            let present = |at: &&usize| self.many[**at].column.get(step).is_some();
            let members: Vec<usize> = many.iter().filter(present).copied().collect();
            if members.is_empty() {
                if let (Some(fill), Some(series)) = (fill_many, partner_labels) {
                    let filled = CellRef::Float(fill);
                    self.pair(eval, key, (None, filled), (Some(series), series.column.get(step)), step, false)?;
                }
                continue;
            }
            if !partner_cell.is_some() {
                continue;
            }
            let mut paired = false;
            for at in members {
                let series = &self.many[at];
                let cell = series.column.get(step);
                let again = paired && matching.cardinality == Cardinality::OneToOne;
                let one = (partner_labels, partner_cell);
                paired |= self.pair(eval, key, (Some(series), cell), one, step, again)?;
            }
        }
        Ok(())
    }

    /// Pairs a series with the only one that it can match, whole columns at once where they are floats.
    fn columns(&mut self, eval: &mut Eval<'_>, key: &Labels, many: usize, one: usize) -> Result<(), PromqlError> {
        let (Some(left), Some(right)) = (self.many.get(many), self.one.get(one)) else { return Ok(()) };
        let binary = self.binary;
        let trims = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let floats = left.column.floats().zip(right.column.floats()).filter(|_| !trims);
        eval.spend(10 + left.labels.bytes())?;
        let Some((of_many, of_one)) = floats else {
            for step in 0..self.grid.steps {
                eval.spend(1)?;
                let cells = (left.column.get(step), right.column.get(step));
                if cells.0.is_some() && cells.1.is_some() {
                    self.pair(eval, key, (Some(left), cells.0), (Some(right), cells.1), step, false)?;
                }
            }
            return Ok(());
        };
        eval.budget.charge(series_bytes(self.grid.steps))?;
        let (a, b) = if self.swap { (of_one, of_many) } else { (of_many, of_one) };
        let mut cells = a.to_vec();
        eval.in_parts(&mut cells, |at, part| {
            operate::columns(binary.op, binary.bool, part, b.get(at..).unwrap_or_default());
        })?;
        let column = Column::of(cells);
        let labels = self.labels(key, Some(&left.labels), Some(&right.labels));
        let drop_name = binary.bool || left.drop_name;
        match self.places.entry((labels.clone(), drop_name)) {
            Entry::Vacant(place) => {
                self.charged.add(labels.bytes() + RESULT_BYTES)?;
                place.insert(self.results.len());
                self.results.push(Series { labels, drop_name, column });
            }
            Entry::Occupied(place) => {
                let Some(before) = self.results.get_mut(*place.get()) else { return Ok(()) };
                for step in 0..self.grid.steps {
                    if let Some(cell) = column.get(step).to_cell() {
                        put(eval, &mut before.column, step, cell)?;
                    }
                }
                eval.budget.release(series_bytes(self.grid.steps));
            }
        }
        Ok(())
    }

    /// The one series of the one side that has a sample.
    fn only(&self, one: &[usize], step: usize, key: &Labels) -> Result<Option<usize>, PromqlError> {
        let mut found: Option<usize> = None;
        for at in one {
            if self.one[*at].column.get(step).is_some() {
                if let Some(first) = found {
                    let side = if self.swap { "left" } else { "right" };
                    return Err(PromqlError::Execution(format!(
                        "found duplicate series for the match group {key} on the {side} hand-side of the operation: \
                         [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                        self.one[first].labels, self.one[*at].labels
                    )));
                }
                found = Some(*at);
            }
        }
        Ok(found)
    }

    /// Pairs two samples; says whether the operator can take them. If so and `again` where only one pair
    /// may be, which is meant cannot be told, also if a comparison leaves both out.
    fn pair(
        &mut self,
        eval: &mut Eval<'_>,
        key: &Labels,
        (many, many_cell): (Option<&Series>, CellRef<'_>),
        (one, one_cell): (Option<&Series>, CellRef<'_>),
        step: usize,
        again: bool,
    ) -> Result<bool, PromqlError> {
        let binary = self.binary;
        let labels_cost = many.map_or(key.bytes(), |series| series.labels.bytes());
        eval.spend(20 + labels_cost + cost(many_cell) + cost(one_cell))?;
        let (left, right) = if self.swap { (one_cell, many_cell) } else { (many_cell, one_cell) };
        let outcome = operate::cells(eval, binary.op, left, right, self.pos);
        let Some(mut cell) = outcome.cell else { return Ok(false) };
        if again {
            return Err(ambiguous());
        }
        if binary.bool {
            cell = Cell::Float(f64::from(u8::from(outcome.keep)));
        } else if !outcome.keep {
            return Ok(true);
        }
        let labels = self.labels(key, many.map(|series| &series.labels), one.map(|series| &series.labels));
        let from_many = many.is_some_and(|series| series.drop_name);
        let drop_name = binary.bool || from_many;
        let place = match self.places.entry((labels.clone(), drop_name)) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                let column: Column = eval.column(&self.grid)?;
                self.charged.add(labels.bytes() + RESULT_BYTES)?;
                self.results.push(Series { labels, drop_name, column });
                *place.insert(self.results.len() - 1)
            }
        };
        if let Some(series) = self.results.get_mut(place) {
            put(eval, &mut series.column, step, cell)?;
        }
        Ok(true)
    }

    /// The labels of the result.
    fn labels(&self, key: &Labels, many: Option<&Labels>, one: Option<&Labels>) -> Labels {
        let matching = &self.binary.matching;
        let mut labels = many.unwrap_or(key).clone();
        if !self.binary.op.is_comparison() {
            labels = value::nameless(&labels);
        }
        if matching.cardinality == Cardinality::OneToOne {
            let listed = |name: &str| matching.labels.iter().any(|label| label == name);
            return labels.filter(|name, _| listed(name) == matching.on);
        }
        for name in &matching.include {
            labels = labels.with(name, one.map_or("", |one| one.value(name)));
        }
        labels
    }
}
