//! Axes. Ticks are chosen here, so that every axis has round numbers with a unit.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::quantity;

/// How an axis divides.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// From zero, in equal steps.
    Linear,
    /// In powers of ten.
    Log,
    /// At these places, with these names; places are as the points have them.
    Named(Vec<(f64, String)>),
}

/// An axis: what it shows, in which unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// With the unit, as `latency, ms`.
    pub label: String,
    /// How it divides.
    pub scale: Scale,
}

impl Axis {
    /// From zero, in equal steps.
    pub fn linear(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
        }
    }

    /// In powers of ten.
    pub fn log(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Log,
        }
    }

    /// The value's place on the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log => value.max(1e-9).log10(),
            Scale::Linear | Scale::Named(_) => value,
        }
    }

    /// Both ends and the ticks, as places.
    pub(super) fn span(&self, values: impl Iterator<Item = f64>) -> Span {
        let values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        match &self.scale {
            Scale::Linear => linear_ticks(most),
            Scale::Log => {
                let above = values.iter().copied().filter(|value| *value > 0.0);
                let least = above.fold(f64::INFINITY, f64::min);
                log_ticks(if least.is_finite() { least } else { 1.0 }, most)
            }
            Scale::Named(names) => {
                let places: Vec<_> = names.iter().map(|(place, _)| *place).collect();
                Span::over(places)
            }
        }
    }

    pub(super) fn name(&self, place: f64) -> String {
        match &self.scale {
            Scale::Linear => quantity::scaled(place),
            Scale::Log => quantity::scaled(10f64.powf(place)),
            Scale::Named(names) => {
                let found = names.iter().find(|(at, _)| (at - place).abs() < 1e-9);
                found.map(|(_, name)| name.clone()).unwrap_or_default()
            }
        }
    }
}

/// An axis as plotters wants it: places from one end to the other, and the ticks chosen above.
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<f64>,
}

impl Span {
    /// From the first tick to the last.
    fn over(ticks: Vec<f64>) -> Self {
        let from = ticks.first().copied().unwrap_or(0.0);
        let to = ticks.last().copied().filter(|to| *to > from);
        Self {
            from,
            to: to.unwrap_or(from + 1.0),
            ticks,
        }
    }
}

impl Ranged for Span {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[allow(clippy::cast_possible_truncation, reason = "pixels of a drawing")]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from);
        let pixels = f64::from(limit.1 - limit.0) * share;
        limit.0 + pixels.round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

/// From zero to the first round number above, in four to eight steps.
fn linear_ticks(most: f64) -> Span {
    let most = if most > 0.0 { most } else { 1.0 };
    let step = quantity::rounded_up(most / 8.0);
    let ticks: Vec<_> = (0..=9)
        .map(|number| f64::from(number) * step)
        .take_while(|tick| *tick < most + step)
        .collect();
    Span::over(ticks)
}

/// Whole powers of ten around the values, with 2 and 5 between when they are few.
fn log_ticks(least: f64, most: f64) -> Span {
    let (first, last) = (
        least.log10().floor(),
        most.max(least * 1.001).log10().ceil(),
    );
    let steps: &[f64] = match last - first {
        decades if decades <= 3.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let mut ticks = Vec::new();
    let mut decade = first;
    while decade < last {
        ticks.extend(steps.iter().map(|step| decade + step.log10()));
        decade += 1.0;
    }
    ticks.push(last);
    // Trim empty parts of a decade at either end.
    let (low, high) = (least.log10() + 1e-9, most.max(least * 1.001).log10() - 1e-9);
    let from = ticks.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let to = ticks
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(ticks.len() - 1);
    Span::over(ticks[from..=to.max(from + 1).min(ticks.len() - 1)].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(span: Span, expected: &[f64]) {
        let close = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-6;
        let same = span.ticks.len() == expected.len() && span.ticks.iter().zip(expected).all(close);
        assert!(same, "{:?} instead of {expected:?}", span.ticks);
        assert!((span.from - expected[0]).abs() < 1e-6);
    }

    #[test]
    fn divides_axes_at_round_numbers() {
        check(
            linear_ticks(7.3),
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        );
        check(linear_ticks(100.0), &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        check(linear_ticks(0.0), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        // 30 to 400: from 20 to 500, by 1, 2 and 5.
        check(
            log_ticks(30.0, 400.0),
            &[20f64, 50.0, 100.0, 200.0, 500.0].map(f64::log10),
        );
        check(
            log_ticks(0.5, 20_000.0),
            &[-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        );
    }
}
