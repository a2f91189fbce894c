//! Aggregations that pick series: `topk`, `bottomk`, `limitk`, `limit_ratio`. While series come, those
//! that are among the picked of their group at no step are forgotten now and then, so that memory is
//! for what the answer may hold, not for all series.
//! Invariant: candidates keep the order in which they came. Who is not picked from some of the series
//! is not picked from more of them either, so what is forgotten would not have come back.

use super::PromqlError;
use super::ast::{Aggregate, AggregateOp, Pos};
use super::group::Groups;
use super::run::{Eval, Grid};
use super::share::{in_ratio, share_of};
use super::stream::{One, Open, Stream};
use super::value::{CellRef, Column, Series, Vector, series_bytes};
use crate::base::limits::QueryBudget;
use crate::model::sample::is_stale;
use crate::query::pace::{Held, Pace};

/// Bytes of columns that come together before any are forgotten; few in tests, whose series are few.
const KEPT_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };

/// Whether an aggregation gives some of its series as they are.
pub(super) fn picks(op: AggregateOp) -> bool {
    matches!(op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio)
}

/// What picks.
#[derive(Clone, Copy)]
struct Picker<'q> {
    aggregate: &'q Aggregate,
    /// Its parameter at each step.
    param: &'q [f64],
    /// The least and the most series that it asks for at a step.
    asks: (usize, usize),
    steps: usize,
    /// Where the aggregation begins.
    pos: Pos,
}

/// What a float at a step must beat to be picked; NaN lets all of them pass.
type Bar = Vec<f64>;

/// Series that may be picked.
struct Candidates<'q> {
    by: Picker<'q>,
    groups: Groups<'q>,
    all: Vector,
    /// The group of each.
    of: Vec<usize>,
    /// By group, once one of its series was forgotten.
    bars: Vec<Option<Bar>>,
    /// How many there may be before some are forgotten.
    many: usize,
}

/// What a candidate takes besides its series: its group, its cell at a step, its column of the result, its
/// place among the members.
const CANDIDATE_BYTES: usize =
    4 * size_of::<usize>() + 2 * size_of::<(usize, CellRef<'_>)>() + size_of::<Option<Column>>();

/// Bytes of a candidate.
fn bytes(column: &Column) -> usize {
    series_bytes(column.steps()) + CANDIDATE_BYTES + column.histogram_bytes()
}

impl Picker<'_> {
    fn param(&self, step: usize) -> f64 {
        self.param.get(step).copied().unwrap_or(0.0)
    }

    /// How many series may come together before some are forgotten, when so many were kept last time.
    /// As long as there are no more than are asked for, all are picked.
    fn many(&self, kept: usize) -> usize {
        kept.max(self.asks.1).saturating_mul(2).max(KEPT_BYTES / (8 * self.steps.max(1))).max(2)
    }

    /// Whether a float beats a bar.
    fn beats(&self, value: f64, bar: f64) -> bool {
        let order = value.total_cmp(&bar);
        let wins = if self.aggregate.op == AggregateOp::Bottomk { order.is_lt() } else { order.is_gt() };
        (wins || bar.is_nan()) && !is_stale(value)
    }

    /// The bar that the chosen entries of a step are for those who come later: the worst of as many as
    /// are picked. Equal ones lose against those before them.
    fn bar(&self, step: usize, chosen: &[(usize, CellRef<'_>)]) -> f64 {
        let all = if self.aggregate.op == AggregateOp::Bottomk { f64::NEG_INFINITY } else { f64::INFINITY };
        match (how_many(self.param(step)), chosen.last()) {
            (0, _) => all,
            (k, Some((_, CellRef::Float(value)))) if k <= chosen.len() && self.aggregate.op != AggregateOp::Limitk => {
                *value
            }
            (k, Some(_)) if k <= chosen.len() => all,
            _ => f64::NAN,
        }
    }

    /// Whether a series can be told to be picked at no step, without looking at others.
    fn is_out(&self, one: &One<'_>, bar: Option<&Bar>) -> bool {
        if self.aggregate.op == AggregateOp::LimitRatio {
            let share = share_of(one.labels, one.drop_name);
            return !(0..self.steps).any(|step| in_ratio(share, self.param(step)));
        }
        match (one.column.floats(), bar) {
            (Some(floats), Some(bar)) => !floats.iter().zip(bar).any(|(value, bar)| self.beats(*value, *bar)),
            _ => false,
        }
    }
}

impl<'q> Candidates<'q> {
    fn new(by: Picker<'q>) -> Self {
        let groups = Groups::new(by.aggregate);
        Self { by, groups, all: Vec::new(), of: Vec::new(), bars: Vec::new(), many: by.many(0) }
    }

    fn add(&mut self, eval: &mut Eval<'_>, one: One<'_>) -> Result<bool, PromqlError> {
        let (group, new) = self.groups.place(one.labels, one.drop_name);
        if new {
            eval.budget.charge(self.groups.bytes(group))?;
            self.bars.push(None);
        }
        eval.spend(self.by.steps + one.labels.bytes())?;
        if self.by.is_out(&one, self.bars.get(group).and_then(Option::as_ref)) {
            return Ok(false);
        }
        eval.budget.charge(series_bytes(one.column.steps()) + CANDIDATE_BYTES)?;
        let column = std::mem::take(one.column);
        self.all.push(Series { labels: one.labels.clone(), drop_name: one.drop_name, column });
        self.of.push(group);
        if self.all.len() > self.many {
            self.forget(eval)?;
        }
        Ok(true)
    }

    /// Adds the candidates of a run further on.
    fn merge(&mut self, other: Self) {
        let places: Vec<usize> = other.groups.all().iter().map(|group| self.groups.merge(group).0).collect();
        self.of.extend(other.of.iter().filter_map(|group| places.get(*group)));
        self.all.extend(other.all);
    }

    /// Gives back the bars, when no more series come.
    fn drop_bars(&mut self, budget: &QueryBudget) {
        let bars = std::mem::take(&mut self.bars);
        budget.release(8 * bars.iter().flatten().map(Vec::len).sum::<usize>());
    }

    /// Forgets the series that are picked at no step.
    fn forget(&mut self, eval: &mut Eval<'_>) -> Result<(), PromqlError> {
        if self.by.aggregate.op != AggregateOp::LimitRatio {
            self.forget_beaten(eval)?;
        }
        self.many = self.by.many(self.all.len());
        Ok(())
    }

    fn forget_beaten(&mut self, eval: &mut Eval<'_>) -> Result<(), PromqlError> {
        let by = self.by;
        let mut keep = vec![false; self.all.len()];
        for (group, members) in members(&self.of, self.groups.all().len()).iter().enumerate() {
            if members.len() <= by.asks.0 {
                members.iter().for_each(|at| keep.get_mut(*at).into_iter().for_each(|keep| *keep = true));
                continue;
            }
            let mut bar = Vec::with_capacity(by.steps);
            pick_each(eval, (by, false), (&self.all, &[]), members, |_, step, chosen| {
                bar.push(by.bar(step, chosen));
                for (at, _) in chosen {
                    if let Some(keep) = keep.get_mut(*at) {
                        *keep = true;
                    }
                }
                Ok(())
            })?;
            let forgets = members.iter().any(|at| keep.get(*at) == Some(&false));
            if let Some(own) = self.bars.get_mut(group).filter(|_| forgets) {
                if own.is_none() {
                    eval.budget.charge(8 * self.by.steps)?;
                }
                *own = Some(bar);
            }
        }
        let mut kept = keep.iter().copied();
        self.all.retain(|series| {
            let kept = kept.next().unwrap_or_default();
            if !kept {
                eval.budget.release(bytes(&series.column));
            }
            kept
        });
        let mut kept = keep.iter().copied();
        self.of.retain(|_| kept.next().unwrap_or_default());
        Ok(())
    }
}

/// The members of each of so many groups, when those of all series are known.
fn members(of: &[usize], groups: usize) -> Vec<Vec<usize>> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups];
    for (at, group) in of.iter().enumerate() {
        if let Some(members) = members.get_mut(*group) {
            members.push(at);
        }
    }
    members
}

/// How many series a parameter asks for.
fn how_many(param: f64) -> usize {
    if param < 1.0 { 0 } else { param as usize }
}

/// Picks among the members of a group at each step, by `shares` where ratios pick; `then` gets places of series and their cells, the
/// worst of them last, and where that is asked for all in the order of their rank.
fn pick_each<'v>(
    eval: &mut Eval<'_>,
    (by, in_order): (Picker<'_>, bool),
    (vector, shares): (&'v Vector, &[f64]),
    members: &[usize],
    mut then: impl FnMut(&mut Eval<'_>, usize, &[(usize, CellRef<'v>)]) -> Result<(), PromqlError>,
) -> Result<(), PromqlError> {
    let mut entries = Vec::new();
    for step in 0..by.steps {
        eval.spend(members.len())?;
        entries.clear();
        let cell = |at: &usize| Some((*at, vector.get(*at)?.column.get(step)));
        entries.extend(members.iter().filter_map(cell).filter(|(_, cell)| cell.is_some()));
        choose(eval, (by, in_order), step, &mut entries, shares)?;
        then(eval, step, &entries)?;
    }
    Ok(())
}

/// Leaves the chosen entries.
fn choose(
    eval: &mut Eval<'_>,
    (by, in_order): (Picker<'_>, bool),
    step: usize,
    entries: &mut Vec<(usize, CellRef<'_>)>,
    shares: &[f64],
) -> Result<(), PromqlError> {
    let (op, param) = (by.aggregate.op, by.param(step));
    if op == AggregateOp::LimitRatio {
        entries.retain(|(at, _)| shares.get(*at).is_some_and(|share| in_ratio(*share, param)));
        return Ok(());
    }
    let k = how_many(param);
    if matches!(op, AggregateOp::Topk | AggregateOp::Bottomk) {
        if entries.iter().any(|(_, cell)| matches!(cell, CellRef::Histogram(_))) {
            eval.info(by.pos, format!("ignored histogram in {} aggregation", op.text()));
        }
        entries.retain(|(_, cell)| matches!(cell, CellRef::Float(_)));
        let value = |cell: &CellRef<'_>| if let CellRef::Float(value) = cell { *value } else { f64::NAN };
        let rank = |(at, a): &(usize, CellRef<'_>), (bt, b): &(usize, CellRef<'_>)| {
            let (a, b) = (value(a), value(b));
            let order = match (a.is_nan(), b.is_nan()) {
                (false, false) if op == AggregateOp::Topk => b.total_cmp(&a),
                (false, false) => a.total_cmp(&b),
                (a, b) => a.cmp(&b),
            };
            order.then(at.cmp(bt))
        };
        // Of many only the first few are put in order.
        if k > 0 && k <= entries.len() {
            entries.select_nth_unstable_by(k - 1, rank);
            entries.truncate(k);
        }
        if in_order {
            Pace::new(eval.budget).sort(entries, rank)?;
        }
    }
    entries.truncate(k);
    Ok(())
}

/// The series of a stream that may be picked.
fn candidates<'q>(eval: &mut Eval<'_>, by: Picker<'q>, stream: &Stream<'_>) -> Result<Candidates<'q>, PromqlError> {
    let budget = eval.budget;
    let mut total = Candidates::new(by);
    let mut aside = eval.fork();
    stream.run(
        eval,
        &|| Candidates::new(by),
        &|eval, candidates: &mut Candidates<'_>, one| candidates.add(eval, one),
        &mut |mut run| {
            run.drop_bars(budget);
            total.merge(run);
            if total.all.len() > total.many { total.forget(&mut aside) } else { Ok(()) }
        },
    )?;
    eval.absorb(aside);
    total.drop_bars(budget);
    Ok(total)
}

impl Eval<'_> {
    /// The series that an aggregation picks, each with the samples of those steps at which it does.
    ///
    /// # Errors
    /// What the series say that are not yet computed, and the budget.
    pub(super) fn picked(
        &mut self,
        aggregate: &Aggregate,
        pos: Pos,
        open: Open<'_>,
        param: &[f64],
        grid: &Grid,
    ) -> Result<Vector, PromqlError> {
        let asks = param
            .iter()
            .map(|param| how_many(*param))
            .fold((usize::MAX, 0), |(least, most), k| (least.min(k), most.max(k)));
        let by = Picker { aggregate, param, asks, steps: grid.steps, pos };
        let Candidates { groups, all, of, .. } = match open {
            Open::Stream(stream) if !self.general => candidates(self, by, &stream)?,
            open => {
                let mut own = Candidates::new(by);
                own.all = self.computed(open)?;
                self.budget.charge(CANDIDATE_BYTES * own.all.len())?;
                for series in &own.all {
                    self.spend(10 + series.labels.bytes())?;
                    let (group, new) = own.groups.place(&series.labels, series.drop_name);
                    if new {
                        self.budget.charge(own.groups.bytes(group))?;
                    }
                    own.of.push(group);
                }
                own
            }
        };
        let held = Held::new(self.budget);
        let mut shares = Vec::new();
        if aggregate.op == AggregateOp::LimitRatio {
            held.add(size_of::<f64>() * all.len())?;
            for series in &all {
                self.spend(10 + series.labels.bytes())?;
                shares.push(share_of(&series.labels, series.drop_name));
            }
        }
        // Most series are picked at no step, and have no column.
        let mut columns: Vec<Option<Column>> = vec![None; all.len()];
        let mut order: Vec<usize> = Vec::new();
        for members in members(&of, groups.all().len()) {
            pick_each(self, (by, true), (&all, &shares), &members, |eval, step, chosen| {
                for (at, cell) in chosen {
                    let Some(place) = columns.get_mut(*at) else { continue };
                    let mut column = match place.take() {
                        Some(column) => column,
                        None => eval.column(grid)?,
                    };
                    eval.set_shared(&mut column, step, cell.to_cell())?;
                    *place = Some(column);
                }
                if grid.steps == 1 {
                    order.extend(chosen.iter().map(|(at, _)| *at));
                }
                Ok(())
            })?;
        }
        let ranked = grid.steps == 1 && matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk);
        let places = if ranked { order } else { (0..all.len()).collect() };
        let series = |at: usize| {
            let (series, column) = (all.get(at)?, columns.get_mut(at)?.take()?);
            Some(Series { labels: series.labels.clone(), drop_name: series.drop_name, column })
        };
        let result = places.into_iter().filter_map(series).collect();
        self.release(&all);
        Ok(result)
    }
}
