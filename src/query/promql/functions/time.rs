//! Functions of time: of the query's own, and calendar parts of sample values (UTC).

use super::row::{Function, Imp, arg, row};
use crate::model::labels::Labels;
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Kind};
use crate::query::promql::run::{Eval, Gives, Grid};
use crate::query::promql::value::{Cell, CellRef, Column, Series, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    row("time", "seconds since 1970 of the step", "time()", Imp::Whole(|e, _, _, g| time(e, g))),
    row("start", "seconds of the query's first step", "start()", Imp::Whole(|e, _, _, g| seconds(e, g, e.times.start))),
    row("end", "seconds of the query's last step", "end()", Imp::Whole(|e, _, _, g| seconds(e, g, e.times.end))),
    row("step", "seconds between steps", "step()", Imp::Whole(|e, _, _, g| seconds(e, g, e.times.step))),
    row("range", "seconds from first to last step", "range()", Imp::Whole(|e, _, _, g| span(e, g))),
    row("timestamp", "time of each sample, in seconds", "timestamp(a)", Imp::Whole(|e, c, _, g| timestamp(e, c, g))),
    row(
        "start_timestamp",
        "when counting began for each sample, in seconds",
        "start_timestamp(a)",
        Imp::Whole(|e, c, _, g| start_timestamp(e, c, g)),
    ),
    row("year", "year", "year()", Imp::Whole(|e, c, _, g| part(e, c, g, |t| t.year as f64))),
    row("month", "month of the year, from 1", "month()", Imp::Whole(|e, c, _, g| part(e, c, g, |t| t.month as f64))),
    row("day_of_month", "day of the month", "day_of_month()", Imp::Whole(|e, c, _, g| part(e, c, g, |t| t.day as f64))),
    row("day_of_week", "day, Sunday is 0", "day_of_week()", Imp::Whole(|e, c, _, g| part(e, c, g, Calendar::weekday))),
    row(
        "day_of_year",
        "day of the year",
        "day_of_year()",
        Imp::Whole(|e, c, _, g| part(e, c, g, Calendar::day_of_year)),
    ),
    row(
        "days_in_month",
        "days of the month",
        "days_in_month()",
        Imp::Whole(|e, c, _, g| part(e, c, g, Calendar::month_days)),
    ),
    row("hour", "hour of the day", "hour()", Imp::Whole(|e, c, _, g| part(e, c, g, |t| (t.second / 3600) as f64))),
    row(
        "minute",
        "minute of the hour",
        "minute()",
        Imp::Whole(|e, c, _, g| part(e, c, g, |t| (t.second / 60 % 60) as f64)),
    ),
];

/// A point in time, by the calendar.
#[derive(Clone, Copy)]
struct Calendar {
    days: i64,
    year: i64,
    month: i64,
    day: i64,
    /// Of the day.
    second: i64,
}

impl Calendar {
    /// By days since 1970; the civil calendar in eras of 400 years that begin in March.
    fn of(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { days, year, month, day, second }
    }

    fn leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn weekday(self) -> f64 {
        (self.days + 4).rem_euclid(7) as f64
    }

    fn month_length(self, month: i64) -> i64 {
        match month {
            2 if self.leap() => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn month_days(self) -> f64 {
        self.month_length(self.month) as f64
    }

    fn day_of_year(self) -> f64 {
        ((1..self.month).map(|month| self.month_length(month)).sum::<i64>() + self.day) as f64
    }
}

fn times(eval: &Eval<'_>, grid: &Grid) -> Result<Vec<f64>, PromqlError> {
    eval.budget.charge(8 * grid.steps)?;
    Ok((0..grid.steps).map(|step| grid.time(step) as f64 / 1000.0).collect())
}

fn time(eval: &mut Eval<'_>, grid: &Grid) -> Result<Value, PromqlError> {
    Ok(Value::Scalar(times(eval, grid)?))
}

fn seconds(eval: &mut Eval<'_>, grid: &Grid, ms: i64) -> Result<Value, PromqlError> {
    eval.constant(ms as f64 / 1000.0, grid)
}

fn span(eval: &mut Eval<'_>, grid: &Grid) -> Result<Value, PromqlError> {
    let ms = eval.times.end.saturating_sub(eval.times.start);
    seconds(eval, grid, ms)
}

/// Of a selector, when its samples were taken; of anything else, the time of the step.
fn timestamp(eval: &mut Eval<'_>, call: &Call, grid: &Grid) -> Result<Value, PromqlError> {
    let expr = arg(call, 0)?;
    if let Kind::Vector(selector) = &expr.bare().kind {
        let mut vector = eval.instant(selector, grid, Gives::Time, expr.pos)?;
        vector.iter_mut().for_each(|series| series.drop_name = true);
        return Ok(Value::Vector(vector));
    }
    let vector = eval.vector(expr, grid)?;
    let stamp = |_: &mut Eval<'_>, step: usize, _: CellRef<'_>| Ok(Some(Cell::Float(grid.time(step) as f64 / 1000.0)));
    Ok(Value::Vector(eval.map(vector, true, stamp)?))
}

/// Of a selector, when counting began for its samples; what is computed has no such time.
fn start_timestamp(eval: &mut Eval<'_>, call: &Call, grid: &Grid) -> Result<Value, PromqlError> {
    let expr = arg(call, 0)?;
    let Kind::Vector(selector) = &expr.bare().kind else {
        let vector = eval.vector(expr, grid)?;
        eval.release(&vector);
        return Ok(Value::Vector(Vec::new()));
    };
    let mut vector = eval.instant(selector, grid, Gives::Start, expr.pos)?;
    vector.iter_mut().for_each(|series| series.drop_name = true);
    Ok(Value::Vector(vector))
}

fn part(eval: &mut Eval<'_>, call: &Call, grid: &Grid, part: fn(Calendar) -> f64) -> Result<Value, PromqlError> {
    let of = |value: f64| {
        if value.is_nan() || value.abs() > 9e15 { f64::NAN } else { part(Calendar::of(value.trunc() as i64)) }
    };
    let Some(expr) = call.args.first() else {
        let mut values = times(eval, grid)?;
        eval.in_parts(&mut values, |_, part| part.iter_mut().for_each(|value| *value = of(*value)))?;
        let column = Column::of(values);
        return Ok(Value::Vector(vec![Series { labels: Labels::default(), drop_name: false, column }]));
    };
    let vector = eval.vector(expr, grid)?;
    let vector = eval.map(vector, true, |_, _, cell| {
        Ok(if let CellRef::Float(value) = cell { Some(Cell::Float(of(value))) } else { None })
    })?;
    Ok(Value::Vector(vector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_knows_leap_years() {
        let t = Calendar::of(1_709_208_000);
        assert_eq!((t.year, t.month, t.day, t.month_days(), t.day_of_year()), (2024, 2, 29, 29.0, 60.0));
        let t = Calendar::of(-1);
        assert_eq!((t.year, t.month, t.day, t.weekday()), (1969, 12, 31, 3.0));
    }
}
