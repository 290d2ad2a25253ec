//! What was measured: cases, sides, and the values of all rounds.

use std::collections::BTreeMap;
use std::time::Duration;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// This engine.
    Freehold,
    /// XFS with reflink=1.
    Xfs,
    /// btrfs as mkfs makes it.
    Btrfs,
    /// The device itself.
    Raw,
}

impl Side {
    /// In the order of the columns.
    pub(crate) const ALL: [Side; 4] = [Side::Freehold, Side::Xfs, Side::Btrfs, Side::Raw];

    /// Its name on the command line.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Side::Freehold => "freehold",
            Side::Xfs => "xfs",
            Side::Btrfs => "btrfs",
            Side::Raw => "raw",
        }
    }

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Freehold => "Freehold",
            Side::Xfs => "XFS",
            Side::Btrfs => "btrfs",
            Side::Raw => "raw device",
        }
    }
}

/// What a value counts, and which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations a second: more is better.
    PerSecond,
    /// Bytes a second: more is better.
    Throughput,
    /// Seconds: less is better.
    Time,
    /// A number, such as bytes for each extent: less is better.
    Number,
}

impl Unit {
    /// Whether more is better.
    pub(crate) fn rises(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::Throughput)
    }

    /// For people.
    pub(crate) fn show(self, v: f64) -> String {
        match self {
            Unit::PerSecond if v >= 1e6 => format!("{:.2} M/s", v / 1e6),
            Unit::PerSecond if v >= 1e3 => format!("{:.1} K/s", v / 1e3),
            Unit::PerSecond => format!("{v:.0}/s"),
            Unit::Throughput => format!("{:.0} MiB/s", v / f64::from(1 << 20)),
            Unit::Time if v < 1e-7 => format!("{:.1} ns", v * 1e9),
            Unit::Time if v < 1e-6 => format!("{:.0} ns", v * 1e9),
            Unit::Time if v < 1e-3 => format!("{:.1} us", v * 1e6),
            Unit::Time if v < 1.0 => format!("{:.2} ms", v * 1e3),
            Unit::Time => format!("{v:.2} s"),
            Unit::Number if v != 0.0 && v < 10.0 => format!("{v:.3}"),
            Unit::Number => format!("{v:.0}"),
        }
    }
}

/// What the device did for one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Write commands.
    pub(crate) writes: f64,
    /// Flushes.
    pub(crate) flushes: f64,
}

/// One line of a table.
#[derive(Debug)]
pub(crate) struct Case {
    /// The workload that it belongs to.
    pub(crate) workload: &'static str,
    /// What was done.
    pub(crate) name: String,
    /// Of its values.
    pub(crate) unit: Unit,
    /// Of all rounds.
    pub(crate) values: BTreeMap<Side, Vec<f64>>,
    /// Of all rounds.
    pub(crate) costs: BTreeMap<Side, Vec<Cost>>,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// In the order in which they came.
    pub(crate) cases: Vec<Case>,
    /// What the reader of a workload's table must know.
    pub(crate) notes: Vec<(&'static str, String)>,
}

impl Results {
    /// A value of one round.
    pub(crate) fn add(
        &mut self,
        workload: &'static str,
        name: impl Into<String>,
        unit: Unit,
        side: Side,
        value: f64,
    ) {
        self.case(workload, name.into(), unit).values.entry(side).or_default().push(value);
    }

    /// As [`Results::add`], for a time.
    pub(crate) fn time(
        &mut self,
        workload: &'static str,
        name: impl Into<String>,
        side: Side,
        time: Duration,
    ) {
        self.add(workload, name, Unit::Time, side, time.as_secs_f64());
    }

    /// What the device did for each of `operations` of a case that has a value.
    pub(crate) fn cost(&mut self, workload: &'static str, name: &str, side: Side, cost: Cost) {
        let found = self.cases.iter_mut().find(|c| c.workload == workload && c.name == name);
        if let Some(case) = found {
            case.costs.entry(side).or_default().push(cost);
        }
    }

    /// Said below the table, once.
    pub(crate) fn note(&mut self, workload: &'static str, text: impl Into<String>) {
        let note = (workload, text.into());
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn case(&mut self, workload: &'static str, name: String, unit: Unit) -> &mut Case {
        let found = self.cases.iter().position(|c| c.workload == workload && c.name == name);
        let at = found.unwrap_or_else(|| {
            let (values, costs) = (BTreeMap::new(), BTreeMap::new());
            self.cases.push(Case { workload, name, unit, values, costs });
            self.cases.len() - 1
        });
        &mut self.cases[at]
    }
}

impl Case {
    /// The median of a side.
    pub(crate) fn median(&self, side: Side) -> Option<f64> {
        median(self.values.get(&side)?)
    }

    /// The median and how far the rounds lie apart.
    pub(crate) fn show(&self, side: Side) -> String {
        let Some(mid) = self.median(side) else { return "not measured here".into() };
        let all = &self.values[&side];
        let (low, high) = all.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        match all.len() {
            1 => self.unit.show(mid),
            _ => {
                format!(
                    "{} [{} .. {}]",
                    self.unit.show(mid),
                    self.unit.show(low),
                    self.unit.show(high)
                )
            }
        }
    }

    /// How many times better than the other one we are.
    pub(crate) fn ratio(&self, other: Side) -> Option<f64> {
        let (ours, theirs) = (self.median(Side::Freehold)?, self.median(other)?);
        let (better, worse) = if self.unit.rises() { (ours, theirs) } else { (theirs, ours) };
        (worse > 0.0).then(|| better / worse)
    }

    /// The median cost of a side.
    pub(crate) fn cost_of(&self, side: Side) -> Option<Cost> {
        let all = self.costs.get(&side)?;
        let pick = |f: fn(&Cost) -> f64| median(&all.iter().map(f).collect::<Vec<_>>());
        Some(Cost { writes: pick(|c| c.writes)?, flushes: pick(|c| c.flushes)? })
    }
}

/// The middle one; of an even number, the lower of the two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_below_one_is_a_loss_either_way() {
        let mut r = Results::default();
        r.add("w", "rate", Unit::PerSecond, Side::Freehold, 50.0);
        r.add("w", "rate", Unit::PerSecond, Side::Xfs, 100.0);
        r.add("w", "time", Unit::Time, Side::Freehold, 2.0);
        r.add("w", "time", Unit::Time, Side::Xfs, 1.0);
        assert_eq!(r.cases[0].ratio(Side::Xfs), Some(0.5));
        assert_eq!(r.cases[1].ratio(Side::Xfs), Some(0.5));
        assert_eq!(r.cases[0].ratio(Side::Btrfs), None);
        assert_eq!(r.cases[0].show(Side::Btrfs), "not measured here");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(1.0));
    }
}
